"""The rows of a file that somebody wants a model measured on, and the objective that they and the model suit."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.catalog.metrics import METRIC_CHOICES, METRICS, SETTING_CHOICES
from engine.catalog.objectives import OBJECTIVES, Head, Objective, find_objective
from engine.data.formats import TAKEN_FROM, Candidate, candidates, columns_of
from engine.data.label_names import names_in
from engine.data.prepared_profile import dropped_sentences
from engine.data.progress import WorkWatch
from engine.data.row_store import picked
from engine.data.rows import Row, Tally
from engine.data.source_facts import first_rows, read_options, source_files
from engine.data.sources import check_read
from engine.data.split import limited
from engine.data.token_key import rows_hash
from engine.data.usable_rows import for_files, read_raw, usable_rows
from engine.evaluation.apart.subject import Subject
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe
from engine.recipe.schema_data import DataSection
from engine.text import clean_line

_DOES: dict[Head, str] = {
    "causal-lm": "goes on with a text",
    "masked-lm": "guesses hidden words",
    "seq2seq-lm": "makes another text of a text",
    "sequence-classification": "gives a text a class",
    "token-classification": "gives each word a tag",
}
_ROWS: dict[str, str] = {
    "messages": "conversations",
    "prompt_completion": "prompts with completions",
    "alpaca": "instructions with answers",
    "source_target": "texts with the text to make of them",
    "text": "plain text",
    "text_label": "texts with labels",
    "word_tags": "words with tags",
    "entity_spans": "texts with entities",
    "preference": "pairs of a better and a worse answer",
    "unpaired_preference": "answers marked good or bad",
    "prompts": "prompts without an expected answer",
}
UNMEASURED: dict[str, str] = {
    "reinforcement-learning": "its numbers come from the rewards of a run",
}
"""Objectives whose numbers need more than a model and rows."""
ALONE_UNKNOWN = frozenset({"win_rate"})
"""Metrics that need a second model."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The objective that is measured, and why."""

    objective: Objective
    why: str


@dataclass(frozen=True, slots=True)
class GivenRows:
    """Rows to be measured on.

    Attributes:
        rows: In canonical form, in the order of the file.
        sha256: Hash over them.
        num_found: Usable rows in the file.
        remarks: What was left out, and why.
    """

    rows: list[Row]
    sha256: str
    num_found: int
    remarks: list[str]


def choose_objective(subject: Subject, data: DataSection, wanted: str | None) -> Chosen:
    """Return the objective that a model and rows suit.

    Args:
        subject: The model.
        data: The file, and how it is read.
        wanted: Name that somebody asked for; None to find it.

    Raises:
        ProblemError: The model cannot do what the rows ask, or the rows hold nothing to compare with.
    """
    if wanted is not None:
        return Chosen(_asked_for(subject, wanted), "as you said")
    likely = _shapes(data)
    fitting = _fitting(subject)
    for shape in likely:
        for objective in fitting:
            if shape in objective.formats:
                rows = _ROWS[shape]
                return Chosen(objective, f"the rows are {rows}, and the model {_does(subject)}")
    raise _nothing_suits(subject, data, likely)


def _shapes(data: DataSection) -> Sequence[str]:
    """Return the shapes that rows can be read as, the surest first."""
    if data.format is not None:
        return [data.format]
    found: Sequence[Candidate] = candidates(first_rows(data))
    sure = [each.format for each in found if each.confidence >= TAKEN_FROM]
    likely = sure or [each.format for each in found]
    # A column of text stands in rows of many shapes; what is beside it is what they are for.
    return [shape for place, shape in enumerate(likely) if shape != "text" or place == 0]


def _fitting(subject: Subject) -> list[Objective]:
    """Return the objectives that a model can be measured by; that of its own run first."""
    found = [each for each in OBJECTIVES if _can(subject, each)]
    return sorted(found, key=lambda each: each.name != subject.objective)


def _can(subject: Subject, objective: Objective) -> bool:
    fits = (subject.kind, subject.head) in objective.heads and objective.name not in UNMEASURED
    return fits and (objective.signal == "rewards") == subject.rewards


def _does(subject: Subject) -> str:
    return "gives an answer a reward" if subject.rewards else _DOES[subject.head]


def _asked_for(subject: Subject, wanted: str) -> Objective:
    try:
        objective = find_objective(wanted)
    except KeyError:
        names = ", ".join(each.name for each in _fitting(subject))
        message = f"There is no objective {clean_line(wanted, max_chars=60)!r}."
        raise _problem("no_such_objective", message, f"With this model: {names}.") from None
    if objective.name in UNMEASURED:
        message = f"{objective.title} cannot be measured apart from a run: {UNMEASURED[objective.name]}."
        raise _problem("objective_unmeasured", message, "Name --objective chat where the rows have answers.")
    if not _can(subject, objective):
        names = ", ".join(each.name for each in _fitting(subject)) or "none"
        message = f"{objective.name} does not fit {clean_line(subject.name, max_chars=120)}: it {_does(subject)}."
        raise _problem("objective_unfit", message, f"Objectives that fit this model: {names}.")
    return objective


def _nothing_suits(subject: Subject, data: DataSection, likely: Sequence[str]) -> ProblemError:
    source = clean_line(data.sources()[0], max_chars=120)
    if not likely:
        columns = ", ".join(clean_line(name, max_chars=40) for name in columns_of(first_rows(data))[:12])
        message = f"Nothing says how the rows of {source} are to be read; their columns are {columns or '(none)'}."
        fix = "Say it with --set data.mapping.ROLE=COLUMN; `ftwizard data inspect` shows the ways."
        return _problem("shape_unknown", message, fix)
    if likely[0] == "prompts":
        message = f"The rows of {source} are prompts without an expected answer: there is nothing to compare with."
        fix = "Add the right answers as a column `completion`, or say with --set data.mapping which holds them."
        return _problem("references_missing", message, fix)
    reads = next((each for each in OBJECTIVES if likely[0] in each.formats), OBJECTIVES[0])
    message = (
        f"The rows of {source} are {_ROWS[likely[0]]}, which {reads.name} measures, and "
        f"{clean_line(subject.name, max_chars=120)} {_does(subject)}."
    )
    names = ", ".join(each.name for each in _fitting(subject)) or "none"
    return _problem("rows_unfit", message, f"Take a model that was trained for {reads.name}; this one suits: {names}.")


def choose_metrics(objective: Objective, head: Head, wanted: Sequence[str]) -> list[str]:
    """Return the names for `evaluation.metrics`; all that fit where none are asked for.

    Args:
        objective: What is measured.
        head: What the model gives out.
        wanted: Names as people know them: `rouge` as well as `rougeL`.

    Raises:
        ProblemError: One of them is unknown, or does not fit.
    """
    fitting = [name for name in objective.metrics_with(head) if name not in ALONE_UNKNOWN]
    # Without a recipe nothing says which schema, pattern or file is meant.
    possible = [*fitting, *(name for name in objective.asked if name not in SETTING_CHOICES.values())]
    choices = {metric.name: metric.choice for metric in METRICS} | {name: name for name in METRIC_CHOICES}
    chosen: list[str] = []
    for name in wanted:
        choice = choices.get(name)
        if choice == "":
            # The loss is always measured.
            continue
        if choice is None:
            message = f"There is no metric {clean_line(name, max_chars=60)!r}."
            raise _problem("no_such_metric", message, f"Metrics that fit {objective.name}: {', '.join(possible)}.")
        if choice not in possible:
            needs = next(metric.needs for metric in METRICS if metric.choice == choice)
            message = f"{clean_line(name)} does not fit {objective.name} here: it needs {needs}."
            raise _problem("metric_unfit", message, f"Metrics that fit: {', '.join(possible)}.")
        chosen.append(choice)
    return list(dict.fromkeys(chosen)) or fitting


def read_given(recipe: Recipe, max_rows: int, watch: WorkWatch) -> GivenRows:
    """Return the rows of a file in canonical form; of more than `max_rows` those that the seed draws.

    Args:
        recipe: Its data section says what is read.
        max_rows: Most rows.
        watch: Told how far the reading is.

    Raises:
        ProblemError: The file cannot be read, or none of its rows can be used.
    """
    data, dropped, changed = recipe.data, Tally(), Tally()
    with tempfile.TemporaryDirectory(prefix="ftwizard-rows-") as folder:
        raw, files = read_raw(source_files(data), read_options(data), Path(folder) / "raw.arrow", watch)
        check_read(files, data.sources(), read_options(data))
        usable, _ = usable_rows(raw, for_files(recipe, files), Path(folder) / "rows.arrow", dropped, changed, watch)
        num_found = len(usable.rows)
        told = clean_line(dropped_sentences(dropped), max_chars=600)
        if not num_found:
            message = f"None of the {dropped.total():,} rows can be used: {told}."
            fix = "Correct the rows, or say with --set data.mapping which columns hold question and answer."
            raise _problem("no_usable_row", message, fix)
        places = limited(usable.rows, usable.keys, max_rows, recipe.training.seed, Tally())
        rows = list(picked(usable.rows, places))
    remarks = [f"{dropped.total():,} rows cannot be used: {told}."] if dropped.total() else []
    return GivenRows(rows, rows_hash(rows), num_found, remarks)


def match_labels(subject: Subject, given: GivenRows) -> tuple[list[Row], tuple[str, ...], list[str]]:
    """Return the rows whose labels the model can give, the labels as the data spells them, and what is left out.

    Args:
        subject: A model that tells classes or tags apart.
        given: Rows with labels.

    Raises:
        ProblemError: The model gives none of the labels of the rows.
    """
    in_rows = {name for row in given.rows for name in names_in(row)}
    spelt = {name.casefold(): name for name in in_rows}
    labels = tuple(name if name in in_rows else spelt.get(name.casefold(), name) for name in subject.labels)
    foreign = in_rows - set(labels)
    known = [row for row in given.rows if foreign.isdisjoint(names_in(row))]
    if not foreign:
        return known, labels, []
    shown = ", ".join(clean_line(name, max_chars=40) for name in sorted(foreign)[:5])
    if not known:
        own = ", ".join(clean_line(name, max_chars=40) for name in subject.labels[:5])
        message = f"The model gives none of the labels of the rows: it knows {own}; the rows have {shown}."
        raise _problem("labels_foreign", message, "Name the labels in the data as the model does.")
    remark = (
        f"{len(given.rows) - len(known):,} of {len(given.rows):,} rows have a label that the model cannot give "
        f"({shown}); they are left out, so the numbers are of the others alone."
    )
    return known, labels, [remark]


def _problem(code: str, message: str, fix: str) -> ProblemError:
    return ProblemError(Problem(f"eval.{code}", message, fix))
