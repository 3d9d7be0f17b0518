"""Stage 1 from end to end: files to training and held-out rows, with a profile that says what happened to each row."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

from engine.data.balance import find_balance
from engine.data.cleaning.clean import DROPPED, Cleaned, RowChecks, check_texts, merged
from engine.data.cleaning.outcome import Outcome
from engine.data.cleaning.personal import hide
from engine.data.cleaning.texts import with_texts
from engine.data.conversations import canonical_rows, change_findings, counted
from engine.data.formats import Shape, find_shape
from engine.data.leaks import drop_leaked
from engine.data.lengths import estimate_lengths
from engine.data.readers import ReadOptions
from engine.data.rows import Row, Tally, last_answer, spoken_text, turns
from engine.data.shapes_checks import label_findings
from engine.data.sources import SourceFile, hash_of, read_sources
from engine.data.split import SplitRows, check_share, drop_duplicates, limit_rows, split_rows
from engine.data.split_values import division_of
from engine.data.traits import traits_of
from engine.data.weights import weigh_rows, weight_notes
from engine.planning.profiles import DataProfile, Finding
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe
from engine.recipe.schema_data import DataSection
from engine.text import clean_line

NUM_EXAMPLES = 5
EXAMPLES_AMONG = 50
SMALL_DATA_ROWS = 50
MANY_DROPPED_SHARE = 0.2
_SAID_BY = {"data.control_characters": "hidden_characters", "data.double_encoded": "double_encoding"}
"""Remarks of the readers about raw files, and the check that says the same of rows."""


@dataclass(frozen=True, slots=True)
class PreparedData:
    """Rows ready for rendering, and the facts about them.

    Attributes:
        train_rows: Rows to learn from.
        held_out_rows: Rows to be judged on.
        profile: What happened to each row.
        test_rows: Rows put aside that the run never sees.
    """

    train_rows: list[Row]
    held_out_rows: list[Row]
    profile: DataProfile
    test_rows: list[Row] = field(default_factory=list)


def prepare(recipe: Recipe, *, dropped: Tally | None = None) -> PreparedData:
    """Read, check, clean and split the data of a recipe.

    Lengths in the profile are estimated from characters; `engine.data.profile` measures them with a tokenizer.

    Args:
        recipe: A checked recipe.
        dropped: Filled with the rows that are not used, for whoever wants to be told of every one.

    Raises:
        ProblemError: A file is missing or broken, no column is usable, no row is, or a check of the recipe blocks.
            What it quotes of the rows is hidden where it looks like a secret.
    """
    try:
        return _prepare(recipe, Tally() if dropped is None else dropped)
    except ProblemError as error:
        hidden = [replace(problem, message=hide(problem.message), fix=hide(problem.fix)) for problem in error.problems]
    raise ProblemError(*hidden)


def _prepare(recipe: Recipe, dropped: Tally) -> PreparedData:
    changed = Tally()
    data, seed = recipe.data, recipe.training.seed
    options = _read_options(data)
    files = read_sources([data.source] if isinstance(data.source, str) else data.source, options)
    held_out_file, share = _held_out(data.held_out)
    held_files = read_sources([held_out_file], options, strict=False) if held_out_file else []
    cleaned, shape = _usable(files, recipe, dropped, changed)
    outcomes = list(cleaned.outcomes)
    held: list[Row] = []
    if held_files:
        held_cleaned, _ = _usable(held_files, recipe, dropped, changed, like=shape)
        held, outcomes = held_cleaned.rows, [*outcomes, *held_cleaned.outcomes]
        cleaned, leaked = _without_leaked(cleaned, held, recipe, dropped)
        outcomes.append(leaked)
    cleaned = cleaned.only(limit_rows(cleaned.rows, data.max_rows, seed, dropped))
    division = division_of(
        data.split, cleaned, [row for file in files for row in file.rows], 0 if held_files else share
    )
    split = split_rows(cleaned.rows, division, seed, left_out=_dropped_sentences(dropped))
    held = held or split.held_out
    notes = [*weight_notes(files, split.train, seed), *_split_notes(split)]
    train = weigh_rows(split.train, {file.name: file.weight for file in files}, seed, dropped)
    if (balance := find_balance(train, data.cleaning.class_balance, seed)) is not None:
        train = list(balance.applied(train, dropped, outcomes))
        notes.append(balance.finding())
    found = Found(files + held_files, shape, dropped, changed, merged(outcomes), notes, len(cleaned.rows), split.wanted)
    return PreparedData(train, held, _profile(found, train, held, split.test), split.test)


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


def _read_options(data: DataSection) -> ReadOptions:
    return ReadOptions(encoding=data.encoding, unwrap=data.unwrap, text_unit=data.text_unit)


def _held_out(held_out: str | float | None) -> tuple[str | None, float | None]:
    """Return the held-out file or the share."""
    try:
        share = None if held_out is None else float(held_out)
    except ValueError:
        return str(held_out), None
    check_share(share)
    return None, share


def _usable(
    files: list[SourceFile], recipe: Recipe, dropped: Tally, changed: Tally, like: Shape | None = None
) -> tuple[Cleaned, Shape]:
    raw = [row for file in files for row in file.rows]
    shape = find_shape(raw, recipe.data, objective=recipe.objective, like=like)
    before = dropped.total()
    rows = canonical_rows(raw, shape, dropped, changed)
    texts = check_texts(rows, recipe.data.cleaning, dropped)
    rows = drop_duplicates(texts.rows, dropped) if recipe.data.drop_duplicates else texts.rows
    cleaned = RowChecks(rows, recipe.data.cleaning, recipe.training.seed, dropped).run()
    if not cleaned.rows:
        raise _nothing_left(dropped, "data.source", number=dropped.total() - before)
    return replace(cleaned, outcomes=[*texts.outcomes, *cleaned.outcomes]), shape


def _without_leaked(cleaned: Cleaned, held: Sequence[Row], recipe: Recipe, dropped: Tally) -> tuple[Cleaned, Outcome]:
    kept, leaked = drop_leaked(cleaned.rows, held, recipe.data.cleaning, recipe.training.seed, dropped)
    if not kept:
        raise _nothing_left(dropped, "data.source")
    return cleaned.only(kept), leaked


def _split_notes(split: SplitRows) -> list[Finding]:
    return [Finding(code="data.split", message=note, path="data.split", severity="note") for note in split.notes]


def _nothing_left(dropped: Tally, path: str, number: int | None = None) -> ProblemError:
    return ProblemError(
        Problem(
            "data.no_usable_row",
            clean_line(
                f"None of the {number or dropped.total()} rows can be used: {_dropped_sentences(dropped)}.",
                max_chars=1200,
            ),
            "Correct the rows, or say with data.mapping which columns hold question and answer.",
            path=path,
        )
    )


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


def _dropped_sentences(dropped: Tally) -> str:
    return "; ".join(_dropped_sentence(reason, dropped) for reason in dropped.counts)


def _profile(found: Found, train: list[Row], held: list[Row], test: list[Row]) -> DataProfile:
    files, shape, dropped = found.files, found.shape, found.dropped
    num_rows = sum(len(file.rows) for file in files)
    lengths, answers = estimate_lengths(train)
    held_answers = estimate_lengths(held)[1]
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
        examples=examples_of(train),
        checks=[outcome.result() for outcome in found.outcomes],
        findings=[
            *_remarks(files, {outcome.name for outcome in found.outcomes}),
            *found.notes,
            *told,
            *label_findings(train, held),
            *_findings(num_rows, train, dropped, found.changed),
        ],
    )


def examples_of(rows: Sequence[Row]) -> list[dict[str, str]]:
    """Return the first rows as a person reads them, without those that hold secrets or personal data.

    Examples are written into plans and reports, which are copied and sent around. Where no other row is near, the
    secrets are hidden.
    """
    near = [example(row) for row in rows[:EXAMPLES_AMONG]]
    plain = [shown for shown in near if with_texts(shown, hide) == shown]
    chosen = plain[:NUM_EXAMPLES] if len(plain) >= min(NUM_EXAMPLES, len(near)) else near[:NUM_EXAMPLES]
    return [{key: hide(text) for key, text in shown.items()} for shown in chosen]


def _remarks(files: Sequence[SourceFile], checked: Collection[str]) -> list[Finding]:
    """Return what the readers found odd without refusing it, but for what a check says of the rows themselves."""
    problems = [problem for file in files for problem in file.remarks if _SAID_BY.get(problem.code) not in checked]
    return [Finding(**problem.to_json()) for problem in problems]


def example(row: Row) -> dict[str, str]:
    """Return a row as a person reads it: `{"prompt", "completion"}`, or `{"text"}`."""
    if "text" in row:
        return {"text": row["text"]}
    before = turns(row)[:-1]
    lines = [f"{turn['role']}: {spoken_text(turn)}" for turn in before]
    prompt = before[0]["content"] if len(before) == 1 else "\n".join(lines)
    return {"prompt": prompt, "completion": last_answer(row)}


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
