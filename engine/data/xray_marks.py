"""Sequences that stand out, each with its reasons: what a person should look at first.

A reason is kept when it is rare: what holds for many rows is how these data are, and no row stands out by it.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import numpy as np
from transformers import PreTrainedTokenizerBase

from engine.data.cleaning.texts import parts_of
from engine.data.preflight_case import percent
from engine.data.progress import NOBODY, WorkWatch
from engine.data.rendered import Rendered
from engine.data.rendering import Renderer
from engine.data.rows import Row, spoken_text
from engine.data.spelling import Spelling, bare
from engine.data.token_facts import TokenFacts, trained_runs
from engine.text import clean_line

RARE_SHARE = 0.05
MIN_COMPARED = 30
"""Sequences below which none is far from the others."""
_FAR = 8.0
"""Distance from the median in robust standard deviations."""
_MUCH_LONGER = 4.0
_MOSTLY_DIFFERENT = 0.9
"""Share of answers that must be different before a repeated one stands out."""
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
Marks = dict[int, str]


def find_marks(
    rows: Sequence[Row],
    sequences: Sequence[Rendered],
    facts: TokenFacts,
    renderer: Renderer,
    *,
    watch: WorkWatch = NOBODY,
) -> dict[int, list[str]]:
    """Return why sequences stand out: `{place in sequences: short sentences}`.

    Args:
        rows: Training rows, in the order of their sequences.
        sequences: What they became, cut.
        facts: Of the sequences.
        renderer: What rendered them.
        watch: Told how far the work is.

    Raises:
        ReadingStoppedError: A stop was asked for.
    """
    tokenizer = renderer.tokenizer
    rare = [_unknown(facts), _long(facts), *_of_rows(rows, sequences, facts, tokenizer, watch)]
    certain = [_at(facts.doubled, "begins with its first token twice")]
    if len(rows) and "messages" in rows[0] and renderer.task.signal == "answers":
        ended = np.isin(facts.last_trained, renderer.stop_token_ids)
        certain.append(_at(~facts.cut & ~ended, "no end of the answer is trained"))
        rare += [_shares(facts), _repeated(facts), _cut(facts, "text" if renderer.frame.pairs else "answer")]
        rare.append(_at(~facts.cut & (facts.trained == 2), "the answer is one token"))
    limit = max(1, RARE_SHARE * len(facts))
    found: dict[int, list[str]] = {}
    for marks in (*certain, *(marks for marks in rare if len(marks) <= limit)):
        for place, reason in marks.items():
            found.setdefault(place, []).append(clean_line(reason, max_chars=200))
    return dict(sorted(found.items()))


def _at(chosen: np.ndarray, reason: str) -> Marks:
    return {int(place): reason for place in np.flatnonzero(chosen)}


def _unknown(facts: TokenFacts) -> Marks:
    return {
        int(place): f"{count} {'token is' if count == 1 else 'tokens are'} unknown to the model"
        for place, count in enumerate(facts.unknown)
        if count
    }


def _cut(facts: TokenFacts, what: str) -> Marks:
    return {
        int(place): f"the {what} is cut ({facts.before_cut[place] - facts.lengths[place]:,} tokens are lost)"
        for place in np.flatnonzero(facts.cut & facts.ends_trained)
    }


def _long(facts: TokenFacts) -> Marks:
    if not len(facts):
        return {}
    times = facts.before_cut / max(1.0, float(np.median(facts.before_cut)))
    far = _far(np.log(np.maximum(facts.before_cut, 1))) & (times > _MUCH_LONGER)
    return {int(place): f"{times[place]:.0f} times as long as the others" for place in np.flatnonzero(far)}


def _shares(facts: TokenFacts) -> Marks:
    shares = np.clip(facts.trained / np.maximum(1, facts.lengths), 1e-4, 1 - 1e-4)
    middle = float(np.median(shares)) if len(shares) else 0.0
    return {
        int(place): f"{percent(shares[place])} of it is trained; of most {percent(middle)}"
        for place in np.flatnonzero(_far(np.log(shares / (1 - shares))))
    }


def _far(values: np.ndarray) -> np.ndarray:
    """Return which values are far from the others, by median and median absolute deviation."""
    if len(values) < MIN_COMPARED:
        return np.zeros(len(values), dtype=bool)
    distance = np.abs(values - np.median(values))
    # 1.4826 makes the median absolute deviation of a normal distribution its standard deviation.
    spread = 1.4826 * float(np.median(distance))
    return distance > _FAR * spread if spread > 0 else np.zeros(len(values), dtype=bool)


def _repeated(facts: TokenFacts) -> Marks:
    """Answers that two rows or more share while most answers are different."""
    keys = facts.answers.tolist()
    counts = Counter(keys)
    if len(keys) < MIN_COMPARED or len(counts) < _MOSTLY_DIFFERENT * len(keys):
        return {}
    first: dict[int, str] = {}
    return {
        place: f"answers as {first[key]} does"
        for place, (key, row_id) in enumerate(zip(keys, facts.ids, strict=True))
        if first.setdefault(key, row_id) != row_id
    }


def _of_rows(
    rows: Sequence[Row],
    sequences: Sequence[Rendered],
    facts: TokenFacts,
    tokenizer: PreTrainedTokenizerBase,
    watch: WorkWatch,
) -> list[Marks]:
    """Return marks for which the words of the rows are looked at; they stand at the first sequence of a row."""
    special, spelling = _special_pattern(tokenizer), Spelling(tokenizer)
    spelled: Marks = {}
    damaged: Marks = {}
    rewritten: Marks = {}
    for row, places in watch.counted("Looking for rows that stand out", _together(rows, facts.ids), len(rows)):
        said = _said(row)
        if match := special.search(said):
            spelled[places[0]] = f"its text spells the special token {match.group()}"
        if _REPLACEMENT in said:
            damaged[places[0]] = "its text holds characters that were lost earlier (�)"
        if "messages" in row and _is_rewritten(row, [sequences[place] for place in places], spelling):
            rewritten[places[0]] = "the chat template writes the answer otherwise than the row"
    return [spelled, damaged, rewritten]


def _together(rows: Sequence[Row], ids: Sequence[str]) -> Iterator[tuple[Row, list[int]]]:
    """Yield rows with the places of their sequences; both are in the same order."""
    groups = groupby(range(len(ids)), key=ids.__getitem__)
    wanted, places = next(groups, (None, iter(())))
    for row in rows:
        if row["id"] == wanted:
            yield row, list(places)
            wanted, places = next(groups, (None, iter(())))


def _said(row: Row) -> str:
    if "messages" in row:
        return "\n".join(spoken_text(message) for message in row["messages"])
    return parts_of(row)[0]


def _is_rewritten(row: Row, sequences: Sequence[Rendered], spelling: Spelling) -> bool:
    if any(sequence.cut for sequence in sequences):
        return False
    trained = "".join(spelling.of_ids(run) for sequence in sequences for run in trained_runs(sequence))
    answers = [message["content"] for message in row["messages"] if message["role"] == "assistant"]
    return any(bare(answer) not in trained and spelling.of_text(answer) not in trained for answer in answers)


def _special_pattern(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    names = (special | set(tokenizer.all_special_tokens)) - {tokenizer.unk_token}
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))) or r"(?!)")


def all_reasons(marks: Mapping[int, Sequence[str]], places: Sequence[int], ids: Sequence[str]) -> list[str]:
    """Return the reasons of a sequence of one segment or several; of several, each names its row."""
    named = len(places) > 1
    return [
        f"{row_id}: {reason}" if named else reason
        for place, row_id in zip(places, ids, strict=True)
        for reason in marks.get(place, ())
    ]
