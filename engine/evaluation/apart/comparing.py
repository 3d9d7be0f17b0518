"""Runs and models side by side: numbers with verdicts where they were measured on the same rows, and what differs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.catalog.metrics import METRICS, Metric, find_metric
from engine.evaluation.apart import kept
from engine.evaluation.apart.sides import Rows, Side, find_sides
from engine.evaluation.apart.subject import find_subject
from engine.evaluation.apart.table import metric_table
from engine.evaluation.report_metrics import VERDICTS, judge
from engine.recipe.problems import Problem, ProblemError
from engine.runs.events import numbers_to_words, word_to_number
from engine.runs.home import home_folders
from engine.text import clean_line

COMPARISON_VERSION = 1
NOT_COMPARABLE = "not comparable"
_BY_TOKENS = frozenset({"loss", "perplexity", "token_accuracy", "masked_perplexity", "masked_accuracy"}) | {
    "general_perplexity", "general_masked_perplexity",
}  # fmt: skip
"""Numbers of tokens, which are other things with another tokenizer."""
_BY_SETTING: tuple[tuple[frozenset[str], tuple[str, ...]], ...] = (
    (
        frozenset({"loss", "reward_accuracy", "reward_margin"}),
        ("preference.loss", "preference.beta", "preference.label_smoothing", "preference.simpo_gamma"),
    ),
    (
        frozenset({"reward", "solved_rate"}),
        ("reinforcement.rewards", "reinforcement.weights", "reinforcement.reward_model", "reinforcement.reward_file"),
    ),
)
"""Numbers that mean something else where one of some settings differs; only objectives that read them have them."""
_OTHER_TOKENS = (
    "{} and {} were asked for different numbers of tokens on these rows, as rows were cut or written out differently: "
    "loss and perplexity are only nearly of the same."
)
_TITLES = {"held-out": "Held-out rows", "test": "Test rows (never seen)", "file": "Rows of the file"}


@dataclass(slots=True)
class _Table:
    """The numbers on one kind of rows.

    Attributes:
        kind: `held-out`, `test` or `file`.
        why_not: Of each side why it cannot be held against the first; empty where it can, and for the first.
        metrics: Lines.
        notes: What is odd.
    """

    kind: str
    why_not: list[str]
    metrics: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    num_rows: list[int | None] = field(default_factory=list)

    @property
    def comparable(self) -> bool:
        """Whether any side can be held against the first."""
        return not all(self.why_not[1:])


def compare_apart(
    references: Sequence[str], files: Sequence[str] = (), remarks: Sequence[Sequence[str]] = ()
) -> dict[str, Any]:
    """Return a comparison of runs and models, all against the first.

    Args:
        references: As `engine.evaluation.apart.subject.find_subject` reads them.
        files: Measurements of `ftwizard eval`, one for each; empty to take those of the runs themselves.
        remarks: What `ftwizard eval` said of each.

    Raises:
        ProblemError: There is no such run or model, one stands there twice, or nothing was measured of a model.
    """
    sides = find_sides(references)
    _refuse_twice(sides)
    if files:
        for side, file in zip(sides, files, strict=True):
            side.rows = {"file": _of_file(Path(file))}
        for side, said in zip(sides, remarks, strict=False):
            side.remarks = list(said)
    elif any(side.run is None for side in sides) or not _same_rows(sides, "held-out"):
        _take_kept(sides)
    kinds = [kind for kind in _TITLES if any(kind in side.rows for side in sides)]
    tables = [_table(kind, sides) for kind in kinds]
    content: dict[str, Any] = numbers_to_words(
        {
            "version": COMPARISON_VERSION,
            "sides": [side.to_json() for side in sides],
            "lineage": _lineage(sides),
            "tables": [
                {
                    "rows": table.kind,
                    "title": _TITLES[table.kind],
                    "comparable": table.comparable,
                    "why_not": table.why_not,
                    "num_rows": table.num_rows,
                    "metrics": table.metrics,
                    "headlines": _headlines(sides, table),
                    "notes": table.notes,
                }
                for table in tables
            ],
            "settings": _settings(sides),
        }
    )
    return content


def _refuse_twice(sides: Sequence[Side]) -> None:
    for place, side in enumerate(sides):
        for other in sides[:place]:
            if side.reference == other.reference:
                message = f"{other.letter} and {side.letter} are the same: {clean_line(side.name, max_chars=120)}."
                raise ProblemError(Problem("compare.same", message, "Name two different runs or models."))


def _of_file(path: Path) -> Rows:
    content = kept.load(path)
    if content is None:
        raise ProblemError(Problem("compare.unreadable", f"{clean_line(path)} cannot be read.", "Measure again."))
    return _rows_of(content)


def _rows_of(content: Mapping[str, Any]) -> Rows:
    return Rows(_with_numbers(content["measurement"]), str(content["data"]["sha256"]))


def _with_numbers(content: Mapping[str, Any]) -> dict[str, Any]:
    return {**content, "metrics": {name: word_to_number(value) for name, value in content["metrics"].items()}}


def _take_kept(sides: Sequence[Side]) -> None:
    """Give the sides what was measured of all of them on the rows of one file, the newest, where there is such a file.

    Raises:
        ProblemError: One is a model, of which nothing else is known.
    """
    found: list[dict[str, Rows]] = [_kept_of(side) for side in sides]
    shared = [sha256 for sha256 in found[0] if all(sha256 in one for one in found)]
    if shared:
        for side, one in zip(sides, found, strict=True):
            side.rows["file"] = one[shared[0]]
        return
    models = [side for side in sides if side.run is None]
    if models:
        message = f"{clean_line(models[0].name, max_chars=120)} is no run: nothing says what it is to be measured on."
        fix = "Add --data FILE: all are measured on its rows, and then compared."
        raise ProblemError(Problem("compare.no_data", message, fix))


def _kept_of(side: Side) -> dict[str, Rows]:
    """Return `{hash of the rows: measurement}` of what was measured of a side apart from runs, the newest first."""
    try:
        sha256 = find_subject(side.reference).sha256
    except ProblemError:
        # A run that has left no model.
        return {}
    folder = home_folders().cache / kept.FOLDER
    found: dict[str, Rows] = {}
    for file in sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime, reverse=True):
        content = kept.load(file)
        if content is not None and content["model"]["sha256"] == sha256:
            rows = _rows_of(content)
            found.setdefault(rows.sha256, rows)
    return found


def _same_rows(sides: Sequence[Side], kind: str) -> bool:
    hashes = {side.rows[kind].sha256 if kind in side.rows else "" for side in sides}
    return len(hashes) == 1 and "" not in hashes


def _table(kind: str, sides: Sequence[Side]) -> _Table:
    table = _Table(kind, ["", *(_why_not(kind, sides[0], other) for other in sides[1:])])
    measured = [side.rows[kind].measurement if kind in side.rows else None for side in sides]
    table.num_rows = [None if one is None else int(one.get("num_rows", 0)) for one in measured]
    names = {name for one in measured if one is not None for name in one["metrics"]}
    lines = [None if one is None else {line["name"]: line for line in metric_table(one)} for one in measured]
    for metric in METRICS:
        if metric.name not in names:
            continue
        values = [None if line is None else line.get(metric.name) for line in lines]
        against = [_against(metric, sides, measured, place, table) for place in range(len(sides))]
        table.metrics.append(
            {"name": metric.name, "title": metric.title, "better": metric.better, "sides": values, "against": against}
        )
    table.notes = list(dict.fromkeys(table.notes))
    return table


def _why_not(kind: str, first: Side, other: Side) -> str:
    """Return why the numbers of a side cannot be held against those of the first; empty where they can."""
    missing = next((side for side in (first, other) if kind not in side.rows), None)
    if missing is not None:
        of = "was not measured after training" if kind == "held-out" else f"has no {kind} rows that were measured"
        state = f" ({missing.facts['state']})" if "state" in missing.facts else ""
        return f"{missing.letter} {of}{state}."
    if other.rows[kind].sha256 == first.rows[kind].sha256:
        return ""
    if kind == "file":
        return f"The rows were read differently for {first.letter} and {other.letter}; name one --objective for all."
    same_data = first.facts["data"]["sha256"] == other.facts["data"]["sha256"] != ""
    why = "their data was divided differently" if same_data else "they had different data"
    return (
        f"{first.letter} and {other.letter} were measured on different {kind} rows: {why}. What is held out for one "
        "may be easier, or was learnt by the other."
    )


def _against(
    metric: Metric, sides: Sequence[Side], measured: Sequence[dict[str, Any] | None], place: int, table: _Table
) -> dict[str, Any] | None:
    """Return what the rows say of a side against the first; None for the first, and where nothing can be said."""
    first, ours = measured[0], measured[place]
    if place == 0 or first is None or ours is None or metric.name not in first["metrics"]:
        return None
    if metric.name not in ours["metrics"] or table.why_not[place]:
        return None
    note = _other_meaning(metric, sides[0], sides[place], table.kind)
    if note:
        table.notes.append(note)
        return {"direction": "unknown", "verdict": NOT_COMPARABLE}
    if metric.name == "loss" and first.get("num_tokens") != ours.get("num_tokens"):
        table.notes.append(_OTHER_TOKENS.format(sides[0].letter, sides[place].letter))
    change = judge(metric, first, ours)
    evidence, interval = change.evidence, change.evidence.interval if change.evidence else None
    return {
        "direction": change.direction,
        "verdict": VERDICTS[change.direction],
        "difference": evidence.difference if evidence else None,
        "difference_interval": [interval.low, interval.high] if interval else None,
        "p_value": evidence.p_value if evidence else None,
        "compared_rows": evidence.num_rows if evidence else 0,
    }


def _other_meaning(metric: Metric, first: Side, other: Side, kind: str) -> str:
    """Return why a number is not the same thing for two sides; empty where it is."""
    if metric.name == "win_rate":
        return "Each win rate is against the base model of its own run."
    if metric.name in _BY_TOKENS and first.vocabulary and other.vocabulary and first.vocabulary != other.vocabulary:
        return (
            f"{first.letter} and {other.letter} cut text into different tokens: loss, perplexity and token accuracy "
            "are not comparable."
        )
    if first.plan is None or other.plan is None or kind == "file":
        return ""
    if first.plan.task.signal not in ("preferences", "prompts"):
        return ""
    one, two = first.settings, other.settings
    for names, paths in _BY_SETTING:
        changed = [path for path in paths if one.get(path) != two.get(path)]
        if metric.name in names and changed:
            return f"{metric.title} means something else with another {changed[0]}."
    return ""


def _headlines(sides: Sequence[Side], table: _Table) -> list[str]:
    """Return a sentence on each side but the first: where it is better and worse than that, beyond luck."""
    found = []
    for place, side in enumerate(sides[1:], 1):
        if table.why_not[place]:
            continue
        told: dict[str, list[str]] = {}
        for line in table.metrics:
            against = line["against"][place]
            if against is not None:
                told.setdefault(against["verdict"], []).append(find_metric(line["name"]).word)
        parts = [f"{verdict} in {', '.join(told[verdict])}" for verdict in ("better", "worse") if verdict in told]
        first = sides[0].letter
        if parts:
            found.append(f"{side.letter} against {first}: {'; '.join(parts)}.")
        elif "no evidence" in told or "unchanged" in told:
            found.append(f"There is no evidence that {side.letter} is better or worse than {first}.")
        else:
            found.append(f"Nothing can be said of {side.letter} against {first}.")
    return found


def _lineage(sides: Sequence[Side]) -> list[str]:
    """Return sentences on which run started from which."""
    found = []
    letters = {side.reference: side.letter for side in sides}
    for side in sides:
        if not side.parents:
            continue
        names = [letters.get(parent) or clean_line(parent, max_chars=120) for parent in side.parents]
        further = "".join(f", which started from {name}" for name in names[1:])
        found.append(f"{side.letter} started from the model of {names[0]}{further}.")
    return found


def _settings(sides: Sequence[Side]) -> list[dict[str, Any]]:
    """Return the settings that differ between the runs, in the order of the recipe."""
    runs = [side for side in sides if side.plan is not None]
    if len(runs) < 2:
        return []
    values = [side.settings for side in sides]
    paths = list(dict.fromkeys(path for one in values for path in one))
    found = []
    for path in paths:
        known = [side.settings.get(path) for side in runs]
        if any(value != known[0] for value in known[1:]):
            found.append({"path": path, "values": [one.get(path) for one in values]})
    return found
