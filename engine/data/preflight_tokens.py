"""Checks that look at token ids and masks alone: ends of answers, padding, ids beyond the vocabulary."""

from collections.abc import Sequence

import numpy as np

from engine.data.frames import NO_LIMIT
from engine.data.preflight_case import PreflightCase, Verdict, counted, listed
from engine.data.rendered import Rendered

ENDED_SHARE = 0.99
"""Sequences that must teach an end; the others may be the odd row of a template."""
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
        batch = [_shortened(sequence, case) for sequence in sequences[start : start + 8]]
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


def _shortened(sequence: Rendered, case: PreflightCase) -> Rendered:
    """Return a sequence no longer than the run has it; a pair keeps its text to write, which is what has labels."""
    begin, end = 0, case.max_length
    if case.renderer.frame.pairs:
        source = sequence.trained_mask.index(1)
        begin = max(0, source - case.max_length)
        end = source + (NO_LIMIT if case.max_target is None else case.max_target)
    ids, mask = sequence.input_ids[begin:end], sequence.trained_mask[begin:end]
    return Rendered(ids, mask, len(ids) < len(sequence.input_ids), sequence.id, len(sequence.input_ids))


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
