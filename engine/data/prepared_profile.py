"""What the profile says of prepared data: what happened to each row, lengths, examples, findings."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from engine.data.cleaning.clean import DROPPED
from engine.data.cleaning.outcome import Outcome
from engine.data.cleaning.personal import hide
from engine.data.cleaning.texts import with_texts
from engine.data.conversations import change_findings, counted
from engine.data.formats import Shape
from engine.data.label_names import count_names, entity_words, has_several, names_in, ordered
from engine.data.lengths import estimate_lengths
from engine.data.progress import WorkWatch
from engine.data.rows import Row, Tally, last_answer, spoken_text, turns
from engine.data.shapes_checks import label_findings
from engine.data.sources import SourceFile, hash_of
from engine.data.traits import traits_of
from engine.planning.profiles import DataProfile, Finding
from engine.text import clean_line

NUM_EXAMPLES = 5
EXAMPLES_AMONG = 50
SMALL_DATA_ROWS = 50
MANY_DROPPED_SHARE = 0.2
_SAID_BY = {"data.control_characters": "hidden_characters", "data.double_encoded": "double_encoding"}
"""Remarks of the readers about raw files, and the check that says the same of rows."""
NOTHING = "none"
"""Shown where a row has no class or no entity: a text of its own, where an empty cell would look forgotten."""
_PART_NAMES = {"source_target": {"prompt": "source", "completion": "target"}}


@dataclass(frozen=True, slots=True)
class Found:
    """What was found on the way to the rows."""

    files: list[SourceFile]
    shape: Shape
    dropped: Tally
    changed: Tally
    outcomes: list[Outcome]
    notes: list[Finding]
    num_divided: int
    num_to_hold_out: int


def _dropped_sentence(reason: str, dropped: Tally) -> str:
    count = dropped.counts[reason]
    detail = hide(dropped.details.get(reason, ""))
    first = f" (first: {detail})" if detail else ""
    return f"{_counted(reason, count)}{first}: {dropped.named(reason)}"


def _counted(reason: str, count: int) -> str:
    if reason not in DROPPED:
        return counted(reason, count)
    one, several = DROPPED[reason]
    return f"1 row {one}" if count == 1 else f"{count} rows {several}"


def dropped_sentences(dropped: Tally) -> str:
    """Return how many rows were left out for which reason, and the first of them."""
    return "; ".join(_dropped_sentence(reason, dropped) for reason in dropped.counts)


def profile_of(
    found: Found, train: Sequence[Row], held: Sequence[Row], test: Sequence[Row], watch: WorkWatch, *, prompts: bool
) -> DataProfile:
    """Return the profile of prepared rows.

    Args:
        found: What was found on the way to them.
        train: Rows to learn from.
        held: Rows to be judged on.
        test: Rows put aside.
        watch: Told how far the measuring is.
        prompts: The model answers the rows itself while it learns.
    """
    files, shape, dropped = found.files, found.shape, found.dropped
    num_rows = sum(file.num_rows for file in files)
    lengths, answers = estimate_lengths(watch.each("Measuring the rows", train), prompts=prompts)
    held_answers = estimate_lengths(held, prompts=prompts)[1]
    counts = count_names(train)
    told = [finding for outcome in found.outcomes if (finding := outcome.finding())]
    return DataProfile(
        format=shape.format,
        mapping=shape.mapping,
        evidence=shape.evidence,
        columns=[clean_line(column, max_chars=80) for column in shape.columns],
        num_rows=num_rows,
        num_train=len(train),
        num_held_out=len(held),
        num_test=len(test),
        num_divided=found.num_divided,
        num_to_hold_out=found.num_to_hold_out,
        dropped=dropped.counts,
        lengths=lengths,
        answer_lengths=answers,
        held_out_answer_longest=held_answers.longest if held_answers else 0,
        traits=traits_of(train),
        sha256=hash_of(files),
        bytes=sum(file.num_bytes for file in files),
        examples=examples_of(train, shape.format),
        # A class that only rows to be judged on have is numbered too: the model is judged by it.
        labels=ordered({*counts, *count_names(held), *count_names(test)}),
        label_counts=dict(counts),
        multi_label=any(map(has_several, (train, held, test))),
        checks=[outcome.result() for outcome in found.outcomes],
        findings=[
            *_remarks(files, {outcome.name for outcome in found.outcomes}),
            *found.notes,
            *told,
            *label_findings(train, held),
            *_findings(num_rows, train, dropped, found.changed),
        ],
    )


def examples_of(rows: Sequence[Row], shape: str | None = None) -> list[dict[str, str]]:
    """Return the first rows of a shape as a person reads them, without those that hold secrets or personal data.

    Examples are written into plans and reports, which are copied and sent around. Where no other row is near, the
    secrets are hidden.
    """
    near = [example(row, shape) for row in rows[:EXAMPLES_AMONG]]
    plain = [shown for shown in near if with_texts(shown, hide) == shown]
    chosen = plain[:NUM_EXAMPLES] if len(plain) >= min(NUM_EXAMPLES, len(near)) else near[:NUM_EXAMPLES]
    return [{key: hide(text) for key, text in shown.items()} for shown in chosen]


def _remarks(files: Sequence[SourceFile], checked: Collection[str]) -> list[Finding]:
    """Return what the readers found odd without refusing it, but for what a check says of the rows themselves."""
    problems = [problem for file in files for problem in file.remarks if _SAID_BY.get(problem.code) not in checked]
    return [Finding(**problem.to_json()) for problem in problems]


def example(row: Row, shape: str | None = None) -> dict[str, str]:
    """Return a row as a person reads it: each of its parts by the role that it has, in the order of reading.

    Args:
        row: In its canonical form.
        shape: How the row was read, so that its parts have the names that this shape gives them.
    """
    named = _PART_NAMES.get(shape or "", {})
    return {named.get(role, role): text for role, text in _parts(row).items()}


def _parts(row: Row) -> dict[str, str]:
    if "text" in row:
        names = {"label": ", ".join(names_in(row)) or NOTHING} if "label" in row or "labels" in row else {}
        return {"text": row["text"], **names}
    if "tokens" in row:
        entities = ", ".join(entity_words(row["tokens"], row["tags"])) or NOTHING
        return {"text": " ".join(row["tokens"]), "entities": entities}
    if "messages" in row:
        return {"prompt": _said(turns(row)[:-1]), "completion": last_answer(row)}
    shown: dict[str, str] = {
        role: _said(row[role]) for role in ("prompt", "chosen", "rejected", "completion") if role in row
    }
    if "label" in row:
        shown["judged"] = "good" if row["label"] else "bad"
    return shown | {role: str(row[role]) for role in ("answer", "reward") if role in row}


def _said(spoken: Sequence[dict[str, Any]]) -> str:
    lines = [f"{turn['role']}: {spoken_text(turn)}" for turn in spoken]
    return spoken_text(spoken[0]) if len(spoken) == 1 else "\n".join(lines)


def _findings(num_rows: int, train: Sequence[Row], dropped: Tally, changed: Tally) -> list[Finding]:
    findings = [_dropped_finding(reason, dropped, num_rows) for reason in dropped.counts if reason not in DROPPED]
    findings += change_findings(changed, train)
    if len(train) < SMALL_DATA_ROWS:
        findings.append(
            Finding(
                code="data.few_rows",
                message=f"Only {len(train)} {'row is' if len(train) == 1 else 'rows are'} left for training.",
                fix="The model will mostly repeat them; a few hundred good rows are a start.",
                path="data.source",
                severity="warning",
            )
        )
    return findings


def _dropped_finding(reason: str, dropped: Tally, num_rows: int) -> Finding:
    harmless = reason in ("row_limit", "not_drawn") or (
        reason == "duplicate" and dropped.counts[reason] < MANY_DROPPED_SHARE * num_rows
    )
    message = _dropped_sentence(reason, dropped)
    left_out = "" if reason in ("duplicate", "row_limit", "not_drawn") else " Left out."
    return Finding(
        code=f"data.dropped.{reason}",
        message=clean_line(f"{message}.{left_out}", max_chars=600),
        fix="Remove them from the training file." if reason == "in_held_out" else "",
        path="data.source",
        severity="note" if harmless else "warning",
    )
