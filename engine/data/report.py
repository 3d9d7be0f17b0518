"""The data report: what the data is and what happened to each row, as Markdown and as one self-contained page.

Everything that comes from the data is hostile until it is escaped, in both forms. Examples, findings and places come
from the profile, which has hidden what looks like a secret (docs/data.md).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from engine.data.report_html import html_page
from engine.evaluation.markup import code_block, escape_markdown, inline_code
from engine.evaluation.measurement import write_text
from engine.planning.data_words import (
    CutRow,
    account,
    answers_words,
    cut_heads,
    cut_rows,
    length_bins,
    lost_in,
    measured_words,
    reason_words,
)
from engine.planning.profiles import CheckResult, DataProfile, LengthProfile, PreflightCheck
from engine.recipe.schema import Recipe
from engine.recipe.schema_data import DataSection
from engine.recipe.sources import flatten
from engine.runs.directory import RunDirectory

MAX_EXAMPLE_CHARS = 2000
MAX_PLACES = 20
_BAR_CELLS = 30


@dataclass(frozen=True, slots=True)
class ReportSubject:
    """What a report is about, beside the profile.

    Attributes:
        title: Name of the run, or of the data.
        objective: What the rows are to teach.
        sources: Files, folders and data sets as they are named.
        model: Model whose tokenizer measured the lengths; empty without one.
        max_length: Sequence length of the run; None while nobody chose one.
        seed: Seed of the draws.
        settings: `{path: value}` of the data section where it differs from the defaults.
        files: Name, kind and encoding of each file, where they were looked at.
    """

    title: str
    objective: str
    sources: Sequence[str]
    model: str = ""
    max_length: int | None = None
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: Sequence[Mapping[str, Any]] = ()


def subject_of(recipe: Recipe, *, title: str = "", model: str | None = None) -> ReportSubject:
    """Return what a report of this recipe's data is about.

    Args:
        recipe: A checked recipe.
        title: Heading; the name of the first source when empty.
        model: Model that measured the lengths; that of the recipe when None.
    """
    sources = [_shown_source(source) for source in recipe.data.sources()]
    return ReportSubject(
        title=title or (sources[0] if sources else "data"),
        objective=recipe.objective,
        sources=sources,
        model=_shown_source(recipe.model.base if model is None else model),
        max_length=recipe.training.max_length,
        seed=recipe.training.seed,
        settings=changed_settings(recipe.data),
    )


def changed_settings(data: DataSection) -> dict[str, Any]:
    """Return the settings of a data section that are not the defaults, by their path; the source is left out."""
    usual = flatten({"data": DataSection(source="").model_dump(mode="json")})
    here = flatten({"data": data.model_dump(mode="json")})
    return {
        # A file of held-out rows is named as sources are.
        path: _shown_source(value) if path == "data.held_out" and isinstance(value, str) else value
        for path, value in here.items()
        if not path.startswith("data.source") and usual.get(path) != value and value != {}
    }


def _shown_source(source: str) -> str:
    # A report is passed on: the name of a file says what it is, its folder says who made it.
    here = source.startswith(("/", "~", "."))
    return Path(source).name if here else source


def write_data_report(run: RunDirectory, profile: DataProfile) -> None:
    """Write `data-report.md` and `data-report.html` of a run.

    Raises:
        ProblemError: The plan cannot be read, or the folder cannot be written.
    """
    recipe = run.read_plan().recipe
    title = recipe.name or run.folder_name
    subject = subject_of(recipe, title=title)
    write_text(run.data_report_markdown_file, markdown_report(subject, profile))
    write_text(run.data_report_html_file, html_page(subject, profile))


def with_checks(profile: DataProfile, checks: Sequence[PreflightCheck]) -> DataProfile:
    """Return a profile with checks that were made later; one made again takes the place of the earlier one."""
    latest = {check.id: check for check in (*profile.preflight, *checks)}
    return profile.model_copy(update={"preflight": list(latest.values())})


def write_report_files(folder: Path, subject: ReportSubject, profile: DataProfile) -> tuple[Path, Path]:
    """Write the report in both forms into a folder, which is made when missing, and return the two files.

    Raises:
        ProblemError: The folder cannot be written.
    """
    markdown, page = folder / "data-report.md", folder / "data-report.html"
    write_text(markdown, markdown_report(subject, profile))
    write_text(page, html_page(subject, profile))
    return markdown, page


def markdown_report(subject: ReportSubject, profile: DataProfile) -> str:
    """Return the report as Markdown."""
    sections = (
        f"# Data report: {escape_markdown(subject.title, max_chars=200)}",
        f"{account(profile).sentence()}.",
        _shape(subject, profile),
        _accounting(profile),
        _checks(profile.checks),
        _lengths(subject, profile),
        _preflight(profile),
        _findings(profile),
        _split(subject, profile),
        _examples(profile),
        _footer(subject, profile),
    )
    return "\n\n".join(section for section in sections if section) + "\n"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    rules = "|".join("---:" if place in right else "---" for place in range(len(heads)))
    return "\n".join([f"| {' | '.join(heads)} |", f"|{rules}|", *(f"| {' | '.join(row)} |" for row in rows)])


def _shape(subject: ReportSubject, profile: DataProfile) -> str:
    lines = [
        "## What it is",
        "",
        f"- Sources: {', '.join(inline_code(source, max_chars=200) for source in subject.sources)}",
    ]
    for file in subject.files:
        encoding = f", {escape_markdown(file['encoding'])}" if file["encoding"] else ""
        lines.append(f"  - {inline_code(file['name'], max_chars=200)}: {escape_markdown(file['kind'])}{encoding}")
    lines += [
        f"- Read for: {escape_markdown(subject.objective)}",
        f"- Shape: {escape_markdown(profile.format or 'unknown')}. {escape_markdown(profile.evidence)}",
        f"- Columns: {', '.join(inline_code(name) for name in profile.columns) or 'none'}",
    ]
    if profile.mapping:
        roles = ((escape_markdown(role), inline_code(column)) for role, column in profile.mapping.items())
        lines += ["", _table(("Role", "Column"), roles)]
    return "\n".join(lines)


def _accounting(profile: DataProfile) -> str:
    sums = account(profile)
    rows = [("read", f"{sums.read:,}")]
    rows += [("repeated by weights", f"+{sums.repeated:,}")] if sums.repeated else []
    rows += [(f"dropped: {escape_markdown(reason_words(reason))}", f"{n:,}") for reason, n in sums.dropped.items()]
    rows += [("training", f"{sums.train:,}"), ("held out", f"{sums.held_out:,}")]
    rows += [("put aside for a test", f"{sums.test:,}")] if sums.test else []
    return "## Where each row went\n\n" + _table(("Rows", "Number"), rows, right=(1,))


def _checks(checks: Sequence[CheckResult]) -> str:
    if not checks:
        return ""
    rows = (
        (
            escape_markdown(check.name),
            escape_markdown(check.action),
            f"{check.count:,}",
            f"{check.dropped:,}",
            f"{check.changed:,}",
            _places(check.places, check.count),
        )
        for check in checks
    )
    heads = ("Check", "Does", "Rows found", "Dropped", "Changed", "Where")
    return "## Checks of the rows\n\n" + _table(heads, rows, right=(2, 3, 4))


def _places(places: Sequence[str], count: int) -> str:
    shown = ", ".join(escape_markdown(place, max_chars=120) for place in places[:MAX_PLACES])
    return f"{shown} ..." if count > min(len(places), MAX_PLACES) and shown else shown


def _lengths(subject: ReportSubject, profile: DataProfile) -> str:
    lengths = profile.lengths
    if lengths is None:
        return ""
    most = max((each.num_rows for each in length_bins(lengths)), default=1)
    bars = (
        f"{f'{each.over + 1:,} to {each.up_to:,}':>17} {'#' * round(_BAR_CELLS * each.num_rows / max(1, most)):<30} "
        f"{each.num_rows:,}"
        for each in length_bins(lengths)
    )
    parts = ["## Lengths", "", quantile_words(subject, profile, lengths)]
    drawn = "\n".join(bars)
    if drawn:
        parts += ["", code_block(drawn)]
    if cuts := cut_rows(profile):
        parts += ["", _cuts(profile, cuts)]
    return "\n".join(parts)


def quantile_words(subject: ReportSubject, profile: DataProfile, lengths: LengthProfile) -> str:
    """Return the lengths of rows and of their answers as sentences, and how they are known."""
    how = "estimated from characters" if lengths.estimated else f"counted with the tokenizer of {subject.model}"
    words = (
        f"Tokens per {measured_words(profile)}: median {lengths.p50:,}, 99 % at most {lengths.p99:,}, "
        f"longest {lengths.longest:,}; {lengths.total:,} tokens in all, {escape_markdown(how)}."
    )
    if answers := answers_words(profile):
        words = f"{words} {answers.capitalize()}."
    return f"{words} The sequence length is {subject.max_length:,}." if subject.max_length else words


def _cuts(profile: DataProfile, cuts: Sequence[CutRow]) -> str:
    def number(value: int | None) -> str:
        return "n/a" if value is None else f"{value:,}"

    rows = (
        (
            f"{cut.length:,}",
            f"{cut.num_cut:,} ({100 * cut.share:.1f} %)",
            number(cut.num_answers_cut),
            number(lost_in(profile, cut)),
            number(cut.lost_tokens),
        )
        for cut in cuts
    )
    heads = ("Sequence length", *(head.capitalize() for head in cut_heads(profile)), "Tokens lost")
    return _table(heads, rows, right=(0, 1, 2, 3, 4))


def _preflight(profile: DataProfile) -> str:
    if not profile.preflight:
        return ""
    rows = (
        (
            escape_markdown(check.id),
            escape_markdown(check.title),
            check.status,
            escape_markdown(f"{check.message} {check.fix}".strip(), max_chars=500),
            _places(check.rows, len(check.rows)),
        )
        for check in profile.preflight
    )
    return "## Checks of what is trained\n\n" + _table(("", "Check", "Verdict", "Found", "Rows"), rows)


def _findings(profile: DataProfile) -> str:
    lines = [
        f"- **{finding.severity}** {escape_markdown(f'{finding.message} {finding.fix}'.strip())}"
        for finding in profile.findings
    ]
    return "\n".join(["## Findings", "", *lines]) if lines else ""


def _split(subject: ReportSubject, profile: DataProfile) -> str:
    method = subject.settings.get("data.split.method", "random")
    column = subject.settings.get("data.split.column")
    by = f" by {inline_code(column)}" if column else ""
    lines = [
        f"- {escape_markdown(method)}{by}, seed {subject.seed}: {profile.num_train:,} training, "
        f"{profile.num_held_out:,} held out" + (f", {profile.num_test:,} put aside" if profile.num_test else "") + "."
    ]
    lines += [
        f"- {inline_code(path)}: {inline_code(value)}"
        for path, value in subject.settings.items()
        if not path.startswith("data.split.")
    ]
    return "\n".join(["## Split and settings", "", *lines])


def _examples(profile: DataProfile) -> str:
    if not profile.examples:
        return ""
    blocks = [
        code_block("\n".join(f"[{role}] {text}" for role, text in example.items()), max_chars=MAX_EXAMPLE_CHARS)
        for example in profile.examples
    ]
    return "\n\n".join(["## First rows, as they are used", *blocks])


def _footer(subject: ReportSubject, profile: DataProfile) -> str:
    digest = f"Data sha256 {profile.sha256}. " if profile.sha256 else ""
    return f"{digest}Made by ftwizard {metadata.version('ftwizard')}."
