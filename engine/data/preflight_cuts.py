"""P7: what the sequence length takes from the rows, told apart by what the objective does with a row that is too long.

Text goes on in the next window. A conversation, a source, a text with its class and words with their tags lose their
end; an answer that is compared loses its end, or its row is left out; a prompt that leaves no room is left out.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from engine.data.frames import NO_LIMIT
from engine.data.preflight_case import PreflightCase, Status, Verdict, counted, listed, percent
from engine.data.rendered import Rendered

CUT_SHARE = 0.01
"""Share of rows cut from which on that is a warning, and of answers lost from which on it forbids the start."""
_Measured = Mapping[str, float]


@dataclass(slots=True)
class Cuts:
    """What a sequence length takes, by row; each list holds a row once, in the order of the data.

    Attributes:
        over: Rows that are too long.
        shortened: Those that lose some of what is learnt, or all of it.
        lost: Those of which a sequence has nothing left to learn.
        left_out: Those that teach nothing at all, so that the run does without them.
        num_sequences: Sequences that are cut and stay.
        lost_tokens: Tokens beyond the length.
        copies: How often each row is there; a weight repeats some.
    """

    over: list[str] = field(default_factory=list)
    shortened: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    num_sequences: int = 0
    lost_tokens: int = 0
    copies: Mapping[str, int] = field(default_factory=dict)

    def count(self, rows: list[str]) -> int:
        """Return how many rows of the run these are."""
        return sum(self.copies[row] for row in rows)

    @property
    def ended(self) -> list[str]:
        """Rows that lose the end of what is learnt, and keep some of it."""
        return [row for row in self.shortened if row not in set(self.lost)]


def cuts_of(case: PreflightCase) -> Cuts:
    """Return what the sequence length takes from the rows of a case."""
    if case.renderer.frame.pairs:
        return _of_pairs(case)
    places = () if _goes_on(case) else np.flatnonzero(case.facts.lengths > case.max_length)
    return _of_sequences(case, [int(place) for place in places]) if len(places) else Cuts()


def _goes_on(case: PreflightCase) -> bool:
    """Return whether the rows are plain text, which is cut into windows instead of losing its end."""
    return len(case.train_rows) > 0 and case.renderer.is_text(case.train_rows[0])


def _of_sequences(case: PreflightCase, places: list[int]) -> Cuts:
    limit, renderer = case.max_length, case.renderer
    over, shortened, stay = Counter[str](), Counter[str](), Counter[str]()
    lost_tokens = 0
    for place in places:
        sequence = case.whole.sequences[place]
        over[sequence.id] += 1
        lost_tokens += len(sequence.input_ids) - limit
        shortened[sequence.id] += not renderer.learns_rows and any(sequence.trained_mask[limit:])
        stay[sequence.id] += renderer.learns_rows or _teaches(sequence, limit)
    if renderer.drops_cut_rows:
        stay.clear()
    lost = [row for row in over if stay[row] < over[row]]
    sequences = Counter(case.facts.ids)
    left_out = [row for row in lost if renderer.keeps_rows_whole or over[row] - stay[row] == sequences[row]]
    gone = set(left_out)
    return Cuts(
        over=list(over),
        shortened=[row for row in over if shortened[row]],
        lost=lost,
        left_out=left_out,
        num_sequences=sum(count for row, count in stay.items() if row not in gone),
        lost_tokens=lost_tokens,
        copies=_copies(case),
    )


def _teaches(sequence: Rendered, limit: int) -> bool:
    return any(sequence.trained_mask[1:limit])


def _of_pairs(case: PreflightCase) -> Cuts:
    """Return what the lengths of sources and of texts to write take; neither loses all of a text."""
    targets = case.facts.trained
    limit = NO_LIMIT if case.max_target is None else case.max_target
    over = np.maximum(0, case.facts.lengths - targets - case.max_length) + np.maximum(0, targets - limit)
    rows = case.facts.where(over > 0)
    return Cuts(
        over=rows,
        shortened=case.facts.where(targets > limit),
        num_sequences=int((over > 0).sum()),
        lost_tokens=int(over.sum()),
        copies=_copies(case) if rows else {},
    )


def _copies(case: PreflightCase) -> Counter[str]:
    return Counter(row["id"] for row in case.rendered_rows)


def check_truncation(case: PreflightCase) -> Verdict:
    """P7: how many rows are cut, lose their answer or its end; and whether every row is accounted for."""
    cuts = cuts_of(case)
    missing = _missing(case)
    num_dropped = case.whole.dropped.total()
    measured = {
        "rows": len(case.rendered_rows),
        "max_length": case.max_length,
        "max_target": case.max_target or 0,
        "rows_cut": cuts.count(cuts.over),
        "sequences_cut": cuts.num_sequences,
        "answers_cut": cuts.count(cuts.shortened),
        "answers_lost": cuts.count(cuts.lost),
        "ends_lost": cuts.count(cuts.shortened),
        "tokens_lost": cuts.lost_tokens,
        "rows_left_out": num_dropped + cuts.count(cuts.left_out),
        "rows_missing": len(missing),
    }
    if len(missing) > num_dropped:
        return Verdict(
            "blocked",
            f"{counted(len(missing), 'row gives', 'rows give')} no sequence, but only "
            f"{num_dropped:,} are counted as left out ({listed(missing)}).",
            "Report this: rows must not vanish uncounted.",
            missing,
            measured,
        )
    if not cuts.over:
        return Verdict("passed", _nothing_cut(case), measured=measured)
    return _teller(case)(case, cuts, measured)


def _missing(case: PreflightCase) -> list[str]:
    present = set(case.facts.ids)
    return [row["id"] for row in case.rendered_rows if row["id"] not in present]


def _nothing_cut(case: PreflightCase) -> str:
    if case.renderer.drops_cut_rows:
        return f"No prompt has more than {case.max_length:,} tokens: all leave room for an answer."
    if case.renderer.keeps_rows_whole:
        return f"At {case.max_length:,} tokens no answer with its prompt is cut."
    if case.renderer.frame.pairs and case.max_target is not None:
        return (
            f"No source has more than {case.max_length:,} tokens, and no text to write more than {case.max_target:,}."
        )
    whole = "long text goes on in the next sequence, nothing is cut" if _goes_on(case) else "no row is cut"
    return f"At {case.max_length:,} tokens {whole}."


def _teller(case: PreflightCase) -> Callable[[PreflightCase, Cuts, _Measured], Verdict]:
    """Return what puts the cuts of such rows into words."""
    renderer = case.renderer
    if renderer.drops_cut_rows:
        return _prompts_left_out
    if renderer.keeps_rows_whole:
        return _compared
    if renderer.frame.pairs:
        return _sources_and_targets
    return _classified if renderer.learns_rows else _tagged if renderer.task.signal == "tags" else _answered


def _prompts_left_out(case: PreflightCase, cuts: Cuts, measured: _Measured) -> Verdict:
    count = cuts.count(cuts.over)
    return _verdict(
        case,
        cuts,
        measured,
        f"{counted(count, 'prompt has', 'prompts have')} more than {case.max_length:,} tokens, which leaves no "
        f"room for an answer: {_share_of_rows(case, cuts)} left out.",
        f"Set training.max_length higher (the longest prompt has {_longest(case):,} tokens) or "
        "reinforcement.max_completion lower.",
    )


def _compared(case: PreflightCase, cuts: Cuts, measured: _Measured) -> Verdict:
    """Return the verdict on answers that are held against each other or judged: a row stays with all its answers."""
    gone = set(cuts.left_out)
    num_sequences = sum(row_id not in gone for row_id in case.facts.ids)
    parts = []
    if cuts.left_out:
        left_out = counted(cuts.count(cuts.left_out), "row is", "rows are")
        why = f"because nothing is left of an answer ({listed(cuts.left_out)})"
        parts.append(f"{left_out} left out, {why}: {_share(case, cuts, cuts.left_out)}")
    if cuts.num_sequences:
        others = "the other " if cuts.left_out else ""
        ended = [row for row in cuts.shortened if row not in gone]
        within = f"; in {counted(cuts.count(ended), 'row', 'rows')} an answer loses its end ({listed(ended)})"
        parts.append(
            f"{cuts.num_sequences:,} of {others}{counted(num_sequences, 'answer', 'answers')} with "
            f"{'its prompt' if num_sequences == 1 else 'their prompts'} {'is' if cuts.num_sequences == 1 else 'are'} "
            f"cut{within if ended else ''}"
        )
    return _verdict(case, cuts, measured, f"At {case.max_length:,} tokens {'. '.join(parts)}.", _raise_length(case))


def _sources_and_targets(case: PreflightCase, cuts: Cuts, measured: _Measured) -> Verdict:
    targets = case.facts.trained
    sources = case.facts.lengths - targets
    long = case.facts.where(sources > case.max_length)
    parts, raised = [], []
    if long:
        number = counted(cuts.count(long), "source has", "sources have")
        parts.append(f"{number} more than {case.max_length:,} tokens ({listed(long)})")
        longest, room = f"(the longest has {int(sources.max()):,} tokens)", case.context_length
        full = room is not None and case.max_length >= room
        other = f"Take a model that reads more than {room:,} tokens" if full else ""
        raised.append(f"{other if full else 'Set training.max_length higher'} {longest}")
    if cuts.shortened:
        number = counted(cuts.count(cuts.shortened), "text to write has", "texts to write have")
        parts.append(f"{number} more than {case.max_target:,} tokens ({listed(cuts.shortened)})")
        path = f"{'set' if raised else 'Set'} text_to_text.max_target_length"
        raised.append(f"{path} higher (the longest has {int(targets.max()):,} tokens)")
    message = f"{' and '.join(parts)}: {_share_of_rows(case, cuts)} cut."
    return _verdict(case, cuts, measured, message, f"{', '.join(raised)}, or shorten these rows.")


def _classified(case: PreflightCase, cuts: Cuts, measured: _Measured) -> Verdict:
    message = f"{_rows_cut(case, cuts)}; the class is learnt from what is left of the text"
    return _verdict(case, cuts, measured, f"{message}: {_share(case, cuts, cuts.over)}.", _raise_length(case))


def _tagged(case: PreflightCase, cuts: Cuts, measured: _Measured) -> Verdict:
    words = (
        ("has no tag left", "have no tag left"),
        ("loses the tags of its last words", "lose the tags of their last words"),
    )
    return _verdict(case, cuts, measured, _in_parts(case, cuts, words), _raise_length(case))


def _answered(case: PreflightCase, cuts: Cuts, measured: _Measured) -> Verdict:
    words = (("loses its answer", "lose their answer"), ("loses the end of it", "lose the end of it"))
    return _verdict(
        case,
        cuts,
        measured,
        _in_parts(case, cuts, words),
        _raise_length(case),
        blocked=cuts.count(cuts.lost) > CUT_SHARE * len(case.rendered_rows),
    )


def _in_parts(case: PreflightCase, cuts: Cuts, words: tuple[tuple[str, str], tuple[str, str]]) -> str:
    """Return how many rows are cut, how many of them are left out, and how many lose a part of what is learnt."""
    (lost_one, lost_several), (ended_one, ended_several) = words
    parts = [_rows_cut(case, cuts)]
    if cuts.left_out:
        number = counted(cuts.count(cuts.left_out), lost_one, lost_several)
        is_out = "is left out" if cuts.count(cuts.left_out) == 1 else "are left out"
        parts.append(f"{number} ({listed(cuts.left_out)}) and {is_out}")
    if partly := [row for row in cuts.lost if row not in set(cuts.left_out)]:
        number = counted(cuts.count(partly), "loses one of its answers", "lose one of their answers")
        parts.append(f"{number} ({listed(partly)})")
    if cuts.ended:
        parts.append(f"{counted(cuts.count(cuts.ended), ended_one, ended_several)} ({listed(cuts.ended)})")
    return f"{', '.join(parts)}: {_share(case, cuts, cuts.over)}."


def _rows_cut(case: PreflightCase, cuts: Cuts) -> str:
    return f"{counted(cuts.count(cuts.over), 'row is', 'rows are')} cut at {case.max_length:,} tokens"


def _share(case: PreflightCase, cuts: Cuts, rows: list[str]) -> str:
    num_rows = max(1, len(case.rendered_rows))
    return f"{percent(cuts.count(rows) / num_rows)} of {counted(num_rows, 'row', 'rows')}"


def _share_of_rows(case: PreflightCase, cuts: Cuts) -> str:
    return f"{_share(case, cuts, cuts.over)} {'is' if len(case.rendered_rows) == 1 else 'are'}"


def _longest(case: PreflightCase) -> int:
    return int(case.facts.lengths.max())


def _raise_length(case: PreflightCase) -> str:
    longest, room = f"the longest has {_longest(case):,} tokens", case.context_length
    if room is not None and case.max_length >= room:
        return f"Take a model that reads more than {room:,} tokens ({longest}), or shorten these rows."
    reads = f", the model reads {room:,}" if room is not None and room < _longest(case) else ""
    return f"Set training.max_length higher ({longest}{reads}), or shorten these rows."


def _verdict(
    case: PreflightCase, cuts: Cuts, measured: _Measured, message: str, fix: str, *, blocked: bool = False
) -> Verdict:
    """Return a verdict on rows that are too long.

    A planned length spares 99 of 100 rows; that the others end early is said, and no reason to warn.
    """
    share = cuts.count(cuts.over) / max(1, len(case.rendered_rows))
    taken = bool(cuts.lost) and not case.renderer.drops_cut_rows
    status: Status = "blocked" if blocked else "warning" if share > CUT_SHARE or taken else "passed"
    rows = [*cuts.lost, *cuts.ended, *cuts.over]
    return Verdict(status, message, fix if status != "passed" else "", rows, measured)
