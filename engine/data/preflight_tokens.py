"""Checks that look at token ids and masks alone: ends of answers, padding, truncation, ids beyond the vocabulary."""

from collections.abc import Mapping, Sequence

import numpy as np

from engine.data.frames import NO_LIMIT
from engine.data.preflight_case import PreflightCase, Verdict, counted, listed, percent
from engine.data.rendered import Rendered

ENDED_SHARE = 0.99
"""Sequences that must teach an end; the others may be the odd row of a template."""
CUT_SHARE = 0.01
_COLLATED = 64
IGNORED = -100
"""Label of a token that nothing is learnt from, as `engine.objectives.sequences` writes it."""


def check_ends(case: PreflightCase) -> Verdict:
    """P2: the last trained token of a whole row ends the answer."""
    facts, total = case.facts, len(case.facts)
    endless = facts.where(~np.isin(facts.last_trained, case.renderer.stop_token_ids))
    measured = {"sequences": total, "without_end": len(endless)}
    if not endless:
        return Verdict("passed", f"All {total:,} sequences end with a token that stops generation.", measured=measured)
    return Verdict(
        "blocked" if len(endless) > (1 - ENDED_SHARE) * total else "warning",
        f"{counted(len(endless), 'row', 'rows')} of {total:,} would not teach the model to stop: the last "
        f"trained token ends nothing ({listed(endless)}).",
        "Set model.chat_template to chatml, or to a Jinja file that closes each answer with a special token.",
        endless,
        measured,
    )


def check_padding(case: PreflightCase) -> Verdict:
    """P3: the collator keeps every trained label, also where padding and end of text share a token."""
    # The trainer's own collator is what is measured; its libraries are loaded by then.
    from engine.data.collators import collator_of

    collate = collator_of(case.renderer)
    pad = case.renderer.tokenizer.pad_token_id
    sequences = _spread(case.whole.sequences)
    lost: list[str] = []
    filled = 0
    for start in range(0, len(sequences), 8):
        batch = [_shortened(sequence, case.max_length) for sequence in sequences[start : start + 8]]
        labels = collate([_row_of(sequence) for sequence in batch])["labels"].tolist()
        for sequence, found in zip(batch, labels, strict=True):
            wanted = _labels(sequence)
            if case.renderer.frame.pairs:
                # The labels of a pair are those of its target alone.
                wanted = [label for label in wanted if label != IGNORED]
            filled += len(found) - len(wanted)
            if found != wanted + [IGNORED] * (len(found) - len(wanted)):
                lost.append(sequence.id)
    same = pad is not None and pad == case.renderer.tokenizer.eos_token_id
    shared = "; padding and end of text are the same token here" if same else ""
    measured = {"sequences": len(sequences), "padding": filled, "with_other_labels": len(lost), "shared_token": same}
    if lost:
        return Verdict(
            "blocked",
            f"{counted(len(lost), 'sequence loses', 'sequences lose')} labels in a padded batch ({listed(lost)}).",
            "Report this with the model's name: the run would not learn what the rows say.",
            lost,
            measured,
        )
    return Verdict(
        "passed",
        f"{counted(len(sequences), 'sequence', 'sequences')} in padded batches: every label is kept{shared}.",
        measured=measured,
    )


def _labels(sequence: Rendered) -> list[int]:
    # The first token is predicted by nothing.
    pairs = enumerate(zip(sequence.input_ids, sequence.trained_mask, strict=True))
    return [token if trained and place else IGNORED for place, (token, trained) in pairs]


def _row_of(sequence: Rendered) -> dict[str, list[int]]:
    from engine.objectives.sequences import make_segment

    segment = make_segment(sequence.id, sequence.input_ids, sequence.trained_mask)
    return {"input_ids": segment.input_ids, "labels": segment.labels, "seq_lengths": [len(segment.input_ids)]}


def _spread(sequences: Sequence[Rendered]) -> list[Rendered]:
    step = max(1, len(sequences) // _COLLATED)
    return [sequences[place] for place in range(0, len(sequences), step)][:_COLLATED]


def _shortened(sequence: Rendered, limit: int) -> Rendered:
    cut = len(sequence.input_ids) > limit
    return Rendered(
        sequence.input_ids[:limit], sequence.trained_mask[:limit], cut, sequence.id, len(sequence.input_ids)
    )


class _Cuts:
    """What a sequence length takes from conversations, row by row."""

    def __init__(self, case: PreflightCase) -> None:
        self.cut: dict[str, None] = {}
        self.shortened: dict[str, None] = {}
        self.lost: dict[str, None] = {}
        self.lost_tokens = 0
        if case.renderer.frame.pairs:
            self._add_pairs(case)
            return
        over = np.flatnonzero(case.facts.lengths > case.max_length) if case.converses else ()
        for place in over:
            self._add(case.whole.sequences[int(place)], case.max_length)

    def _add_pairs(self, case: PreflightCase) -> None:
        targets = case.facts.trained
        limit = NO_LIMIT if case.max_target is None else case.max_target
        over = np.maximum(0, case.facts.lengths - targets - case.max_length) + np.maximum(0, targets - limit)
        for place in np.flatnonzero(over):
            row_id = case.facts.ids[place]
            self.cut[row_id] = None
            self.lost_tokens += int(over[place])
            if targets[place] > limit:
                self.shortened[row_id] = None

    def _add(self, sequence: Rendered, limit: int) -> None:
        mask = sequence.trained_mask
        self.cut[sequence.id] = None
        self.lost_tokens += len(mask) - limit
        if any(mask[limit:]):
            self.shortened[sequence.id] = None
        if not any(mask[1:limit]):
            self.lost[sequence.id] = None


def check_truncation(case: PreflightCase) -> Verdict:
    """P7: how many rows are cut, lose their answer or its end; and whether every row is accounted for."""
    cuts = _Cuts(case)
    num_rows = len(case.rendered_rows)
    missing = _missing(case)
    measured = {
        "rows": num_rows,
        "max_length": case.max_length,
        "rows_cut": len(cuts.cut),
        "answers_cut": len(cuts.shortened),
        "answers_lost": len(cuts.lost),
        "ends_lost": len(cuts.shortened),
        "tokens_lost": cuts.lost_tokens,
        "rows_left_out": case.whole.dropped.total(),
        "rows_missing": len(missing),
    }
    if len(missing) > case.whole.dropped.total():
        return Verdict(
            "blocked",
            f"{counted(len(missing), 'row gives', 'rows give')} no sequence, but only "
            f"{case.whole.dropped.total():,} are counted as left out ({listed(missing)}).",
            "Report this: rows must not vanish uncounted.",
            missing,
            measured,
        )
    if not cuts.cut:
        whole = "no row is cut" if case.converses else "long text goes on in the next sequence, nothing is cut"
        return Verdict("passed", f"At {case.max_length:,} tokens {whole}.", measured=measured)
    return _truncated(case, cuts, measured)


def _left_out(case: PreflightCase, cuts: _Cuts, measured: Mapping[str, float]) -> Verdict:
    """Return the verdict on prompts that leave no room for an answer."""
    num_rows = max(1, len(case.rendered_rows))
    share = len(cuts.cut) / num_rows
    longest = int(case.facts.lengths.max())
    return Verdict(
        "warning" if share > CUT_SHARE else "passed",
        f"{counted(len(cuts.cut), 'prompt has', 'prompts have')} more than {case.max_length:,} tokens, which leaves no "
        f"room for an answer: {percent(share)} of {counted(num_rows, 'row is', 'rows are')} left out.",
        f"Set training.max_length higher (the longest prompt has {longest:,} tokens) or reinforcement.max_completion "
        "lower."
        if share > CUT_SHARE
        else "",
        list(cuts.cut),
        measured,
    )


def _truncated(case: PreflightCase, cuts: _Cuts, measured: Mapping[str, float]) -> Verdict:
    if case.renderer.drops_cut_rows:
        return _left_out(case, cuts, measured)
    num_rows = max(1, len(case.rendered_rows))
    parts = [f"{counted(len(cuts.cut), 'row is', 'rows are')} cut at {case.max_length:,} tokens"]
    if cuts.lost:
        parts.append(f"{counted(len(cuts.lost), 'loses its answer', 'lose their answer')} ({listed(list(cuts.lost))})")
    only_cut = [row for row in cuts.shortened if row not in cuts.lost]
    if only_cut:
        parts.append(f"{counted(len(only_cut), 'loses the end of it', 'lose the end of it')} ({listed(only_cut)})")
    share = len(cuts.cut) / num_rows
    blocked = len(cuts.lost) > CUT_SHARE * num_rows
    # A planned length spares 99 of 100 rows; that the others end early is said, and no reason to warn.
    warned = share > CUT_SHARE or bool(cuts.lost)
    longest, raised = int(case.facts.lengths.max()), "training.max_length"
    if case.renderer.frame.pairs:
        # Sources and targets have a length each; what is named is the one that cuts more.
        by_source = len(cuts.cut) >= 2 * len(cuts.shortened)
        raised = "training.max_length" if by_source else "text_to_text.max_target_length"
        longest = int((case.facts.lengths - case.facts.trained if by_source else case.facts.trained).max())
    return Verdict(
        "blocked" if blocked else "warning" if warned else "passed",
        f"{', '.join(parts)}: {percent(share)} of {counted(num_rows, 'row', 'rows')}.",
        f"Set {raised} higher (the longest has {longest:,} tokens), or shorten these rows."
        if blocked or warned
        else "",
        [*cuts.lost, *only_cut, *cuts.cut],
        measured,
    )


def _missing(case: PreflightCase) -> list[str]:
    present = set(case.facts.ids)
    return [row["id"] for row in case.rendered_rows if row["id"] not in present]


def check_ids(case: PreflightCase) -> Verdict:
    """P13: every token id of the rows has a row in the model's embedding."""
    if case.vocab_size is None:
        return Verdict("skipped", "The model is not here yet; the run checks it when it has loaded it.")
    limit = case.vocab_size
    highest = int(case.facts.highest.max(initial=0))
    measured = {"highest_id": highest, "embedding_rows": limit}
    if highest < limit:
        return Verdict(
            "passed", f"The highest token id is {highest:,}; the model has {limit:,} tokens.", measured=measured
        )
    beyond = case.facts.where(case.facts.highest >= limit)
    return Verdict(
        "blocked",
        f"{counted(len(beyond), 'row has', 'rows have')} tokens that the model does not: the highest id is "
        f"{highest:,}, the model has {limit:,} tokens ({listed(beyond)}).",
        "Take the tokenizer and the model of one and the same folder or revision.",
        beyond,
        measured,
    )
