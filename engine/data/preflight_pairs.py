"""P24, as far as data tells: answers that are preferred or marked can teach a preference, and not something else."""

from collections.abc import Sequence

from engine.data.cleaning.texts import plain
from engine.data.preflight_case import PreflightCase, Verdict, counted, listed, percent
from engine.data.rows import Row, spoken_text

EQUAL_SHARE = 0.05
"""Share of pairs with two equal answers from which on the columns are wrong, and not a few rows."""
LONGER_SHARE = 0.7
"""Share of pairs whose chosen answer is the longer one from which on length may be what is learnt."""
RARE_SHARE = 0.2
"""Share of good, or of bad, answers below which their weight should be raised."""
ENOUGH_PAIRS = 20
_SAME_SIZE = 1.1
"""Answers whose lengths differ by less than a tenth count as equally long."""


def check_preferences(case: PreflightCase) -> Verdict | None:
    """Look at pairs, or at answers marked good or bad; None for rows of other kinds."""
    if case.renderer.task.signal not in ("preferences", "rewards"):
        return None
    rows = case.train_rows
    if len(rows) and "chosen" in rows[0]:
        return _pairs(rows)
    return _marked(rows) if len(rows) and "label" in rows[0] else None


def _pairs(rows: Sequence[Row]) -> Verdict:
    equal, unasked, longer, shorter = [], [], 0, 0
    for row in rows:
        chosen, rejected = _said(row["chosen"]), _said(row["rejected"])
        equal += [row["id"]] if plain(chosen) == plain(rejected) else []
        unasked += [row["id"]] if not row.get("prompt") else []
        longer += len(chosen) > _SAME_SIZE * len(rejected)
        shorter += len(rejected) > _SAME_SIZE * len(chosen)
    num_pairs = len(rows)
    measured = {
        "preferences": float(num_pairs),
        "equal_answers": float(len(equal)),
        "without_prompt": float(len(unasked)),
        "chosen_longer_share": longer / num_pairs,
        "chosen_shorter_share": shorter / num_pairs,
    }
    if unasked or len(equal) > EQUAL_SHARE * num_pairs:
        return Verdict(
            "blocked",
            f"{len(equal):,} of {counted(num_pairs, 'preference prefers', 'preferences prefer')} an answer to itself, "
            f"{len(unasked):,} have no common prompt ({listed([*equal, *unasked])}).",
            "Correct or remove these rows, and look at data.mapping: which column is the chosen answer?",
            [*equal, *unasked],
            measured,
        )
    if equal:
        message = (
            f"{counted(len(equal), 'pair has', 'pairs have')} two answers that differ in case, punctuation or spaces "
            f"alone ({listed(equal)}): nothing but that can be learnt from them."
        )
        return Verdict("warning", message, "Remove these rows, unless that is what you want to teach.", equal, measured)
    if biased := _of_length(longer, shorter, num_pairs):
        return Verdict("warning", *biased, measured=measured)
    message = (
        f"{counted(num_pairs, 'pair', 'pairs')}: two answers each, the chosen one longer in "
        f"{percent(longer / num_pairs)} and shorter in {percent(shorter / num_pairs)}."
    )
    return Verdict("passed", message, measured=measured)


def _of_length(longer: int, shorter: int, num_pairs: int) -> tuple[str, str] | None:
    """Return what to say where length tells the chosen answers from the rejected ones; None where it does not."""
    if num_pairs < ENOUGH_PAIRS or max(longer, shorter) <= LONGER_SHARE * num_pairs:
        return None
    word = "longer" if longer > shorter else "shorter"
    share = percent(max(longer, shorter) / num_pairs)
    return (
        f"In {share} of the pairs the chosen answer is the {word} one: the model may learn length instead of quality.",
        f"Add pairs whose chosen answer is not {word}, or compare lengths in the samples; SimPO compares by the token.",
    )


def _marked(rows: Sequence[Row]) -> Verdict:
    num_good = sum(bool(row["label"]) for row in rows)
    num_bad = len(rows) - num_good
    measured = {"good": float(num_good), "bad": float(num_bad)}
    words = f"{counted(num_good, 'answer is', 'answers are')} marked good and {num_bad:,} bad"
    if not num_good or not num_bad:
        return Verdict(
            "blocked",
            f"{words}: without both there is nothing to prefer.",
            "Look at the column of labels in data.mapping; of good answers alone chat learns more.",
            measured=measured,
        )
    rare, frequent = min(num_good, num_bad), max(num_good, num_bad)
    if rare < RARE_SHARE * len(rows):
        name = "desirable_weight" if num_good < num_bad else "undesirable_weight"
        fix = f"Set preference.{name} to about {frequent / rare:.0f}, so that both kinds count the same."
        return Verdict("warning", f"{words}: the rarer kind hardly counts.", fix, measured=measured)
    return Verdict("passed", f"{words}.", measured=measured)


def _said(messages: Sequence[Row]) -> str:
    return "\n".join(spoken_text(message) for message in messages)
