"""Stage 1 from end to end: files to training and held-out rows, with a profile that says what happened to each row."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.data.conversations import canonical_rows, change_findings, counted
from engine.data.formats import Shape, find_shape
from engine.data.lengths import estimate_lengths
from engine.data.readers import ReadOptions
from engine.data.rows import Row, Tally, last_answer, turns
from engine.data.sources import SourceFile, hash_of, read_sources
from engine.data.split import drop_duplicates, drop_leaked, limit_rows, split_rows
from engine.data.traits import traits_of
from engine.data.weights import weigh_rows, weight_notes
from engine.planning.profiles import DataProfile, Finding
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import DataSection, Recipe
from engine.text import clean_line

NUM_EXAMPLES = 5
SMALL_DATA_ROWS = 50
MANY_DROPPED_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class PreparedData:
    """Rows ready for rendering, and the facts about them."""

    train_rows: list[Row]
    held_out_rows: list[Row]
    profile: DataProfile


def prepare(recipe: Recipe) -> PreparedData:
    """Read, check, clean and split the data of a recipe.

    Lengths in the profile are estimated from characters; `engine.data.profile` measures them with a tokenizer.

    Args:
        recipe: A checked recipe.

    Raises:
        ProblemError: A file is missing or broken, no column is usable, or no row is.
    """
    dropped, changed = Tally(), Tally()
    options = _read_options(recipe.data)
    source = recipe.data.source
    files = read_sources([source] if isinstance(source, str) else source, options)
    held_out_file, share = _held_out(recipe.data.held_out)
    held_files = read_sources([held_out_file], options, strict=False) if held_out_file else []
    rows, shape = _usable(files, recipe, dropped, changed)
    held: list[Row] = []
    if held_files:
        held, _ = _usable(held_files, recipe, dropped, changed)
        rows = drop_leaked(rows, held, dropped)
        if not rows:
            raise _nothing_left(dropped, "data.source")
    rows = limit_rows(rows, recipe.data.max_rows, recipe.training.seed, dropped)
    if not held_files:
        rows, held = split_rows(rows, share, recipe.training.seed, left_out=_dropped_sentences(dropped))
    read = weight_notes(files, rows, recipe.training.seed)
    rows = weigh_rows(rows, {file.name: file.weight for file in files}, recipe.training.seed, dropped)
    profile = _profile(files + held_files, shape, rows, held, dropped, changed, read)
    return PreparedData(rows, held, profile)


def _read_options(data: DataSection) -> ReadOptions:
    return ReadOptions(encoding=data.encoding, unwrap=data.unwrap, text_unit=data.text_unit)


def _held_out(held_out: str | float | None) -> tuple[str | None, float | None]:
    """Return the held-out file or the share."""
    if not isinstance(held_out, str):
        return None, held_out
    try:
        return None, float(held_out)
    except ValueError:
        return held_out, None


def _usable(files: list[SourceFile], recipe: Recipe, dropped: Tally, changed: Tally) -> tuple[list[Row], Shape]:
    raw = [row for file in files for row in file.rows]
    shape = find_shape(raw, recipe.data, objective=recipe.objective)
    before = dropped.total()
    rows = canonical_rows(raw, shape, dropped, changed)
    if not rows:
        raise _nothing_left(dropped, "data.source", number=dropped.total() - before)
    return (drop_duplicates(rows, dropped) if recipe.data.drop_duplicates else rows), shape


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
    detail = dropped.details.get(reason, "")
    first = f" (first: {detail})" if detail else ""
    return f"{counted(reason, count)}{first}: {dropped.named(reason)}"


def _dropped_sentences(dropped: Tally) -> str:
    return "; ".join(_dropped_sentence(reason, dropped) for reason in dropped.counts)


def _profile(
    files: list[SourceFile],
    shape: Shape,
    train: list[Row],
    held: list[Row],
    dropped: Tally,
    changed: Tally,
    weights: list[Finding],
) -> DataProfile:
    num_rows = sum(len(file.rows) for file in files)
    lengths, answers = estimate_lengths(train)
    held_answers = estimate_lengths(held)[1]
    return DataProfile(
        format=shape.format,
        mapping=shape.mapping,
        evidence=shape.evidence,
        columns=[clean_line(column, max_chars=80) for column in shape.columns],
        num_rows=num_rows,
        num_train=len(train),
        num_held_out=len(held),
        dropped=dropped.counts,
        lengths=lengths,
        answer_lengths=answers,
        held_out_answer_longest=held_answers.longest if held_answers else 0,
        traits=traits_of(train),
        sha256=hash_of(files),
        bytes=sum(file.num_bytes for file in files),
        examples=[example(row) for row in train[:NUM_EXAMPLES]],
        findings=[*_remarks(files), *weights, *_findings(num_rows, train, dropped, changed)],
    )


def _remarks(files: Sequence[SourceFile]) -> list[Finding]:
    """Return what the readers found odd without refusing it."""
    problems = [problem for file in files for problem in file.remarks]
    return [Finding(**problem.to_json()) for problem in problems]


def example(row: Row) -> dict[str, str]:
    """Return a row as a person reads it: `{"prompt", "completion"}`, or `{"text"}`."""
    if "text" in row:
        return {"text": row["text"]}
    before = turns(row)[:-1]
    lines = [f"{turn['role']}: {turn['content']}" for turn in before]
    prompt = before[0]["content"] if len(before) == 1 else "\n".join(lines)
    return {"prompt": prompt, "completion": last_answer(row)}


def _findings(num_rows: int, train: Sequence[Row], dropped: Tally, changed: Tally) -> list[Finding]:
    findings = [_dropped_finding(reason, dropped, num_rows) for reason in dropped.counts]
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
