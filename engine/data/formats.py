"""Which shape rows have, with the evidence, and which column plays which role."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

from engine.catalog.objectives import find_objective
from engine.data.conversations import canonical_rows
from engine.data.row_store import RawRows
from engine.data.rows import RawRow, Row, Tally
from engine.data.shapes_detect import DOUBT, GUESS, Guess, guesses
from engine.data.shapes_facts import LOOKED_AT, facts_of
from engine.data.shapes_names import Table
from engine.data.shapes_roles import NEEDED, OPTIONAL, ROLES, Candidate, Format, Shape, evidence_of, listed, roles_of
from engine.data.shapes_turns import as_list, looks_like_turns
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema_data import DataSection
from engine.text import clean_line

__all__ = ["NEEDED", "OPTIONAL", "ROLES", "TAKEN_FROM", "Candidate", "Format", "Shape", "candidates", "find_shape"]

TAKEN_FROM = 0.8
"""Confidence from which on a reading is taken without asking."""
_EXAMPLE_ROWS = 20
_WANTED: dict[Format, str] = {"text_label": "texts and their labels", "prompts": "prompts"}
_OFFERED = 3


def columns_of(rows: Iterable[RawRow]) -> list[str]:
    """Return the columns of all rows in order of appearance."""
    if isinstance(rows, RawRows):
        return rows.columns
    columns: dict[str, None] = {}
    for row in rows:
        columns.update(dict.fromkeys(row.values))
    return list(columns)


def candidates(rows: Sequence[RawRow], objective: str | None = None) -> list[Candidate]:
    """Return the ways in which rows can be read, the surest first; empty when there is none.

    Neither the order of the columns nor others beside them change what is found. Rows that hold preferences, ratings or
    labels are offered to the objective `chat` only below `TAKEN_FROM`: learning the bad answers too, or bare labels,
    is for a person to choose.

    Args:
        rows: Rows of all files; of many, rows at even distances are looked at.
        objective: A name of the catalogue, to leave out what it cannot read; None for every shape.
    """
    columns = columns_of(rows)
    return [
        Candidate(
            guess.format,
            guess.mapping,
            evidence_of(guess.format, guess.mapping, columns, guess.why),
            guess.confidence,
            _example(rows, guess),
        )
        for guess in _readable(guesses(_table(rows, columns)), objective)
    ]


def _table(rows: Sequence[RawRow], columns: list[str]) -> Table:
    return Table(columns, facts_of(rows, columns))


def _example(rows: Sequence[RawRow], guess: Guess) -> Row:
    shape = Shape(guess.format, guess.mapping, "")
    step = max(1, -(-len(rows) // LOOKED_AT))
    for row in rows[: _EXAMPLE_ROWS * step : step]:
        made = canonical_rows([row], shape, Tally(), Tally())
        if made:
            return made[0]
    return {}


def _formats_of(objective: str | None) -> tuple[str, ...]:
    return tuple(NEEDED) if objective is None else find_objective(objective).formats


def _readable(found: Sequence[Guess], objective: str | None) -> list[Guess]:
    """Return the readings that an objective can learn from, and what could be made of the others."""
    formats = _formats_of(objective)
    other = [guess for guess in found if guess.format not in formats]
    kept = [_doubted(guess, other) for guess in found if guess.format in formats]
    if objective is not None and find_objective(objective).signal == "answers":
        kept += [offer for guess in other if guess.confidence >= TAKEN_FROM for offer in _as_chat(guess)]
    different = {(guess.format, tuple(sorted(guess.mapping.items()))): guess for guess in reversed(kept)}
    return sorted(different.values(), key=lambda guess: (-guess.confidence, kept.index(guess)))


def _doubted(guess: Guess, other: Sequence[Guess]) -> Guess:
    """Return a reading, doubted where its columns surely belong to preferences or ratings."""
    for rival in other:
        rated = rival.format in ("preference", "unpaired_preference") and rival.confidence >= TAKEN_FROM
        if rated and set(guess.mapping.values()) & set(rival.mapping.values()):
            why = f"{guess.why}; but {listed(list(rival.mapping.values()))} look like {rival.format}"
            return Guess(guess.format, guess.mapping, why, min(guess.confidence, GUESS))
    return guess


def _as_chat(guess: Guess) -> Iterator[Guess]:
    """Yield how rows of another shape could teach answers."""
    mapping = guess.mapping
    system = {"system": mapping["system"]} if "system" in mapping else {}
    if guess.format == "preference":
        why = "taking the chosen answers and leaving the rejected ones out"
        if "prompt" not in mapping:
            yield Guess("messages", {"messages": mapping["chosen"], **system}, why, DOUBT)
            return
        as_turns = {"messages": mapping["prompt"], "completion": mapping["chosen"]}
        yield Guess("messages", {**as_turns, **system}, why, DOUBT)
    elif guess.format == "unpaired_preference":
        why = "taking all answers, the bad ones too"
        pair = {"prompt": mapping["prompt"], "completion": mapping["completion"]}
        yield Guess("prompt_completion", {**pair, **system}, why, GUESS)
    elif guess.format == "text_label":
        why = "taking the label as the answer"
        yield Guess("prompt_completion", {"prompt": mapping["text"], "completion": mapping["label"]}, why, DOUBT)


def find_shape(rows: Sequence[RawRow], data: DataSection, *, objective: str, like: Shape | None = None) -> Shape:
    """Return how the rows are read: an explicit mapping wins, then the format, then what is detected for certain.

    Args:
        rows: Rows of all files.
        data: The recipe's `data` section.
        objective: Decides which shapes can be learned from.
        like: Shape of the training rows, taken where these rows have its columns: a held-out file of a few rows must
            not be read otherwise than the training file. Where they have others, also the mapping of the recipe, which
            a plan fills in from the training rows, says nothing of them.

    Raises:
        ProblemError: No usable columns, or several ways of which none is certain, with the mapping to set; or a mapping
            to a role or column that is not there.
    """
    columns = columns_of(rows)
    if like is not None and not set(data.mapping.values()) <= set(columns):
        data = data.model_copy(update={"mapping": {}, "format": None})
    _check_mapping(data.mapping, columns)
    if data.mapping or data.format:
        return _chosen_shape(rows, data, columns, objective)
    if like is not None and all(like.mapping[role] in columns for role in NEEDED[like.format]):
        mapping = {role: column for role, column in like.mapping.items() if column in columns}
        evidence = evidence_of(like.format, mapping, columns, "as the training rows are")
        return Shape(like.format, mapping, evidence, columns)
    found = candidates(rows, objective)
    if found and found[0].confidence >= TAKEN_FROM:
        return Shape(found[0].format, found[0].mapping, found[0].evidence, columns)
    raise _unsure(found, columns) if found else _no_shape(columns, None, objective, rows)


def _chosen_shape(rows: Sequence[RawRow], data: DataSection, columns: list[str], objective: str) -> Shape:
    """Return the shape that the recipe says, its other roles bound by the usual names."""
    shapes = [data.format] if data.format else _shapes_of_mapping(data.mapping, objective)
    table = _table(rows, columns)
    for shape in shapes:
        if not set(data.mapping) <= set(roles_of(shape)):
            continue
        mapping = table.bind(shape, data.mapping)
        if shape == "messages" and "messages" not in mapping:
            mapping |= _detected(table, "messages", "messages")
        if all(role in mapping for role in NEEDED[shape]):
            return Shape(shape, mapping, evidence_of(shape, mapping, columns, "as the recipe says"), columns)
    raise _no_shape(columns, data.format or (shapes[0] if len(shapes) == 1 else None), objective, rows)


def _detected(table: Table, shape: Format, role: str) -> dict[str, str]:
    return next(({role: guess.mapping[role]} for guess in guesses(table) if guess.format == shape), {})


def _shapes_of_mapping(mapping: dict[str, str], objective: str) -> list[Format]:
    fits = [shape for shape in NEEDED if set(mapping) <= set(roles_of(shape))]
    read = [shape for shape in fits if shape in _formats_of(objective)]
    if read:
        return read
    if fits:
        message = f"data.mapping names roles of {fits[0]}, which the objective {objective} does not read."
        fix = f"Map the roles of {' or '.join(_formats_of(objective))}, or choose another objective."
        raise ProblemError(Problem("data.mapping_objective", clean_line(message), fix, path="data.mapping"))
    raise ProblemError(
        Problem(
            "data.mapping_mixed",
            f"data.mapping mixes roles of different shapes: {', '.join(mapping)}.",
            "Map prompt and completion, or instruction, input and output, or source and target, or messages, or text.",
            path="data.mapping",
        )
    )


def _check_mapping(mapping: dict[str, str], columns: list[str]) -> None:
    for role, column in mapping.items():
        if role not in ROLES:
            near = get_close_matches(role, ROLES, n=1)
            hint = f"Did you mean {near[0]}?" if near else f"Roles are {', '.join(ROLES)}."
            raise ProblemError(
                Problem(
                    "data.unknown_role", clean_line(f"data.mapping: {role!r} is no role."), hint, path="data.mapping"
                )
            )
        if column not in columns:
            near = get_close_matches(column, columns, n=1)
            hint = f"Did you mean {near[0]!r}?" if near else "Map one of the columns found."
            message = f"The data has no column {column!r} for the role {role}; found: {listed(columns)}."
            raise ProblemError(
                Problem("data.missing_column", clean_line(message), clean_line(hint), path="data.mapping")
            )


def _unsure(found: Sequence[Candidate], columns: list[str]) -> ProblemError:
    ways = " ".join(f"{number}. {each.evidence}" for number, each in enumerate(found[:_OFFERED], 1))
    count = "one way, and that is not" if len(found) == 1 else f"{min(len(found), _OFFERED)} ways, none of them"
    message = f"The columns {listed(columns)} can be read in {count} certain: {ways}"
    first = ", ".join(f"{role}: {column}" for role, column in found[0].mapping.items())
    fix = f"Say which with data.mapping, such as {{{first}}}."
    return ProblemError(
        Problem("data.shape_unsure", clean_line(message, max_chars=1200), clean_line(fix), path="data.mapping")
    )


def _no_shape(columns: list[str], chosen: Format | None, objective: str, rows: Sequence[RawRow]) -> ProblemError:
    found = listed(columns) or "none"
    shape_of_goal = find_objective(objective).formats[0]
    if chosen:
        message = (
            f"The rows cannot be read as {chosen}: it needs {' and '.join(NEEDED[chosen])}; columns found: {found}."
        )
        fix = f"Set data.mapping, such as {NEEDED[chosen][-1]}: COLUMN."
    elif find_objective(objective).plain_text:
        message = f"No column of plain text was found; columns found: {found}."
        fix = "Set data.mapping to text: COLUMN, or choose the objective chat for questions with answers."
    elif not find_objective(objective).converses:
        message = f"No columns of {_WANTED.get(shape_of_goal, shape_of_goal)} were found; columns found: {found}."
        fix = f"Set data.mapping, such as {', '.join(f'{role}: COLUMN' for role in NEEDED[shape_of_goal])}."
    else:
        message = f"No columns of questions and answers were found; columns found: {found}."
        fix = "Set data.mapping, such as prompt: COLUMN, completion: COLUMN."
        if _table(rows, columns).named("text", "text"):
            fix += " For plain text choose the objective domain-adaptation."
        if unread := _unread_turns(rows):
            message, fix = f"{message} {unread}", "Rename the keys of each turn to role and content."
    return ProblemError(Problem("data.no_usable_column", clean_line(message), fix, path="data.mapping"))


def _unread_turns(rows: Sequence[RawRow]) -> str:
    """Return what is wrong with a column that holds lists of objects, as conversations do; else nothing."""
    for column, cell in rows[0].values.items() if rows else ():
        turns = as_list(cell)
        if turns and all(isinstance(turn, dict) for turn in turns) and not looks_like_turns(cell):
            keys = clean_line(listed(list(turns[0])), max_chars=100)
            needed = "role and content, or from and value"
            return f"{clean_line(column)!r} holds lists of objects with {keys}; turns have {needed}."
    return ""
