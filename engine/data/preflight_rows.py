"""Checks of the rows as they are used: leaks between the sides of the split, rows that are all alike."""

from collections.abc import Sequence

import numpy as np

from engine.data.cleaning.texts import parts_of, plain
from engine.data.preflight_case import MAX_ROWS_LISTED, PreflightCase, Verdict, counted, listed, percent
from engine.data.row_keys import first_places, row_key
from engine.data.rows import Row
from engine.data.taught import whole_key

LEAKED_SHARE = 0.01
DUPLICATE_SHARE = 0.2
GRAM_WORDS = 13
"""Words of a sequence that two texts hardly share by chance (Brown et al. 2020, arXiv 2005.14165, appendix C)."""
GRAM_SHARE = 0.5
"""Share of a row's sequences found in training from which on the row is no longer new."""
MIN_GRAMS = 4
MAX_GRAM_WORDS = 4_000_000


def check_leaks(case: PreflightCase) -> Verdict:
    """P14: rows of the evaluation and of the last test that are training rows too."""
    judged = [("held-out", case.held_out_rows), ("test", case.test_rows)]
    if not any(len(rows) for _, rows in judged):
        return Verdict("skipped", "There is no held-out row to compare with.")
    equal, alike = _equal_rows(case, [row for _, rows in judged for row in rows])
    among_test = _among(case.held_out_rows, case.test_rows)
    near, num_compared = _with_common_grams(case, {*equal, *alike})
    num_judged = len(case.held_out_rows) + len(case.test_rows)
    measured = {
        "judged_rows": num_judged,
        "equal": len(equal),
        "equal_but_for_case_and_space": len(alike),
        "sharing_13_word_sequences": len(near),
        "held_out_rows_in_test": len(among_test),
        "training_rows_compared_by_words": num_compared,
    }
    parts = [
        text
        for count, text in (
            (len(equal), f"{len(equal):,} equal a training row"),
            (len(alike), f"{len(alike):,} differ from one only in case and white space"),
            (len(near), f"{len(near):,} have most of their 13-word sequences in common with training rows"),
            (len(among_test), f"{len(among_test):,} stand on both sides of evaluation and test"),
        )
        if count
    ]
    rows = [*equal, *alike, *near, *among_test]
    if not parts:
        number = counted(num_judged, "row", "rows")
        return Verdict("passed", f"None of {number} to be judged on is among the training rows.", measured=measured)
    # Who wrote `report` has decided.
    told = case.recipe.data.cleaning.leaked_rows == "report"
    blocked = len(equal) > LEAKED_SHARE * num_judged and not told
    return Verdict(
        "blocked" if blocked else "warning",
        f"Of {counted(num_judged, 'row', 'rows')} to be judged on, {', '.join(parts)} ({listed(rows)}).",
        "Name a file with other rows, or set data.cleaning.leaked_rows: drop."
        if equal or alike or among_test
        else "Look at them; data.cleaning.near_duplicates: drop keeps one of rows that are nearly equal.",
        rows,
        measured,
    )


def _equal_rows(case: PreflightCase, judged: Sequence[Row]) -> tuple[list[str], list[str]]:
    """Return the judged rows that are training rows, to the letter and but for case and white space."""
    exact = {row_key(row): row["id"] for row in judged}
    loose = {whole_key(row): row["id"] for row in judged}
    equal: dict[str, None] = {}
    alike: dict[str, None] = {}
    wholes = case.taught.wholes
    for place in np.flatnonzero(np.isin(wholes, np.fromiter(loose, dtype=np.uint64, count=len(loose)))):
        same = exact.get(row_key(case.train_rows[int(place)]))
        if same is None:
            alike[loose[int(wholes[place])]] = None
        else:
            equal[same] = None
    return list(equal), [place for place in alike if place not in equal]


def _among(some: Sequence[Row], others: Sequence[Row]) -> list[str]:
    keys = {row_key(row) for row in others}
    return [row["id"] for row in some if row_key(row) in keys] if keys else []


def _grams(row: Row) -> np.ndarray:
    """Return hashes of the 13-word sequences of what a row says, without instructions that many rows share."""
    asked, answered = parts_of(_without_system(row))
    # Hashes of this process will do: they are compared here and kept nowhere.
    words = plain(f"{asked} {answered}").split()
    if len(words) < GRAM_WORDS:
        return np.empty(0, dtype=np.uint64)
    hashed = np.array([hash(word) & 0xFFFFFFFFFFFFFFFF for word in words], dtype=np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(hashed, GRAM_WORDS)
    factors = np.arange(1, 2 * GRAM_WORDS, 2, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    mixed: np.ndarray = np.bitwise_xor.reduce(windows * factors, axis=1)
    return np.unique(mixed)


def _without_system(row: Row) -> Row:
    if "messages" not in row:
        return row
    return {**row, "messages": [message for message in row["messages"] if message["role"] != "system"]}


def _with_common_grams(case: PreflightCase, known: set[str]) -> tuple[list[str], int]:
    """Return judged rows most of whose word sequences stand in one training row each, and how many were compared."""
    judged = [(row["id"], grams) for row in (*case.held_out_rows, *case.test_rows) if len(grams := _grams(row))]
    judged = [(row_id, grams) for row_id, grams in judged if len(grams) >= MIN_GRAMS and row_id not in known]
    if not judged:
        return [], 0
    owners = np.concatenate([np.full(len(grams), number) for number, (_, grams) in enumerate(judged)])
    wanted = np.concatenate([grams for _, grams in judged])
    order = np.argsort(wanted, kind="stable")
    wanted, owners = wanted[order], owners[order]
    sizes = np.array([len(grams) for _, grams in judged])
    most = np.zeros(len(judged), dtype=np.int64)
    compared = words = 0
    for row in case.train_rows:
        grams = _grams(row)
        compared, words = compared + 1, words + len(grams)
        if words > MAX_GRAM_WORDS:
            break
        found = owners[_places(wanted, grams)]
        if len(found):
            most = np.maximum(most, np.bincount(found, minlength=len(judged)))
    return [judged[number][0] for number in np.flatnonzero(most >= GRAM_SHARE * sizes)], compared


def _places(wanted: np.ndarray, grams: np.ndarray) -> np.ndarray:
    """Return the places in sorted `wanted` of every value of `grams`."""
    first, after = np.searchsorted(wanted, grams, "left"), np.searchsorted(wanted, grams, "right")
    hits = np.flatnonzero(after > first)
    if not len(hits):
        return hits
    return np.concatenate([np.arange(first[hit], after[hit]) for hit in hits])


def check_repeats(case: PreflightCase) -> Verdict:
    """P15: rows or answers that are all the same, and many that repeat others."""
    # A weight repeats rows on purpose; each counts once.
    once = case.taught.once()
    firsts = first_places(case.taught.wholes[once])
    repeated = once[firsts != np.arange(len(once))]
    num_rows, num_answers = len(once) - len(repeated), len(np.unique(case.taught.answers[once]))
    seen = len(once) + case.num_duplicates_dropped
    measured = {
        "rows": len(once),
        "distinct_rows": num_rows,
        "distinct_answers": num_answers,
        "duplicates_left_out": case.num_duplicates_dropped,
    }
    if seen > 1 and (num_rows == 1 or (case.converses and num_answers == 1)):
        what = "row" if num_rows == 1 else "answer"
        return Verdict(
            "blocked",
            f"All {seen:,} training rows have one and the same {what}, so there is nothing to tell apart.",
            "Look at the rows and at data.mapping: the column of the answers may be the wrong one.",
            _names(case, once),
            measured,
        )
    share = len(repeated) / max(1, len(once))
    if share > DUPLICATE_SHARE:
        names = _names(case, repeated)
        return Verdict(
            "warning",
            f"{percent(share)} of {len(once):,} training rows repeat an earlier one "
            f"({listed(names, total=len(repeated))}).",
            "Set data.drop_duplicates: true and data.cleaning.near_duplicates: drop to keep one of each.",
            names,
            measured,
        )
    return Verdict("passed", _different(case, num_rows, num_answers), measured=measured)


def _different(case: PreflightCase, num_rows: int, num_answers: int) -> str:
    """Return how many rows differ, and how many of their answers where there are any to count."""
    rows = counted(num_rows, "different row", "different rows")
    row, signal = case.train_rows[0], case.renderer.task.signal
    # What is compared of a row is not always an answer; of a marked one it is good or bad, which P24 counts.
    nouns = {"labels": ("class", "classes"), "tags": ("series of tags", "series of tags")}
    one, several = nouns.get(signal, ("answer", "answers"))
    if "chosen" in row:
        one, several = "pair of answers", "pairs of answers"
    elif signal not in nouns and "messages" not in row and not row.get("answer"):
        return f"{rows}."
    if row.get("labels") is not None:
        one, several = "set of classes", "sets of classes"
    return f"{rows} with {counted(num_answers, f'different {one}', f'different {several}')}."


def _names(case: PreflightCase, places: np.ndarray) -> list[str]:
    """Return `file:line` of the first few training rows of some places."""
    return [case.train_rows[int(place)]["id"] for place in places[:MAX_ROWS_LISTED]]
