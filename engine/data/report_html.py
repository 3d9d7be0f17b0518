"""The data report as one page: no script, nothing loaded, light and dark, text from the data always escaped."""

from collections.abc import Sequence
from importlib import metadata, resources
from typing import TYPE_CHECKING

from engine.evaluation.markup import escape_html
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
from engine.text import clean_line, human_bytes, human_count

if TYPE_CHECKING:
    from engine.data.report import ReportSubject

MAX_EXAMPLE_CHARS = 6000
MAX_PLACES = 100
# Nothing is loaded and nothing runs, even if an escape were missed.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_VERDICTS = {
    "passed": ("better", "✓"),
    "warning": ("mixed", "!"),
    "blocked": ("worse", "✗"),
    "skipped": ("unknown", "–"),
    "error": ("worse", "✗"),
    "note": ("unknown", "i"),
}
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 760, 220, 8, 34, 22


def html_page(subject: "ReportSubject", profile: DataProfile) -> str:
    """Return the page.

    Args:
        subject: What the report is about.
        profile: Facts of the data.
    """
    styles = "".join(
        resources.files(package).joinpath(name).read_text(encoding="utf-8")
        for package, name in (("engine.evaluation", "report.css"), ("engine.data", "report.css"))
    )
    title = _line(subject.title)
    sections = (
        _top(subject, profile),
        _facts(profile),
        _findings(profile),
        _shape(subject, profile),
        _accounting(profile),
        _checks(profile.checks),
        _lengths(subject, profile),
        _preflight(profile.preflight),
        _split(subject, profile),
        _examples(profile),
        _footer(subject, profile),
    )
    body = "\n".join(section for section in sections if section)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title} · ftwizard data report</title>\n<style>\n{styles}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _line(text: object, max_chars: int = 300) -> str:
    return escape_html(clean_line(text, max_chars=max_chars))


def _code(text: object) -> str:
    return f"<code>{_line(text)}</code>"


def _badge(status: str, words: str = "") -> str:
    kind, glyph = _VERDICTS[status]
    return f'<span class="verdict {kind}">{glyph} {words or status}</span>'


def _table(heads: Sequence[str], rows: Sequence[str], *, numbers: Sequence[int] = (), kind: str = "") -> str:
    cells = "".join(
        f'<th class="number">{head}</th>' if place in numbers else f"<th>{head}</th>"
        for place, head in enumerate(heads)
    )
    lines = "\n".join(rows)
    return (
        f'<div class="card table"><table class="dense {kind}"><thead><tr>{cells}</tr></thead>'
        f"<tbody>\n{lines}\n</tbody></table></div>"
    )


def _top(subject: "ReportSubject", profile: DataProfile) -> str:
    shape = profile.format.replace("_", " ") if profile.format else "unknown shape"
    return (
        f'<p class="eyebrow">Data report · {_line(subject.objective)} · {_line(shape)}</p>\n'
        f'<h1>{_line(subject.title)}</h1>\n<p class="headline">{account(profile).sentence()}.</p>'
    )


def _facts(profile: DataProfile) -> str:
    sums, lengths = account(profile), profile.lengths
    facts = [
        ("Rows read", f"{sums.read:,}", human_bytes(profile.bytes) if profile.bytes else ""),
        ("Training", f"{sums.train:,}", f"{sums.repeated:,} of them repeated" if sums.repeated else ""),
        ("Held out", f"{sums.held_out:,}", f"{sums.test:,} more put aside for a test" if sums.test else ""),
        ("Dropped", f"{sums.num_dropped:,}", "each counted below" if sums.dropped else ""),
    ]
    if lengths is not None:
        about = "about " if lengths.estimated else ""
        note = f"median {lengths.p50:,} per {measured_words(profile)}"
        facts.append(("Tokens", f"{about}{human_count(lengths.total)}", note))
    cells = "".join(
        f"<div><dt>{name}</dt><dd>{escape_html(value)}<small>{escape_html(note)}</small></dd></div>"
        for name, value, note in facts
    )
    return f'<dl class="card facts">{cells}</dl>'


def _findings(profile: DataProfile) -> str:
    if not profile.findings:
        return '<h2>Findings</h2>\n<p class="soft">Nothing stands out.</p>'
    order = {"error": 0, "warning": 1, "note": 2}
    items = "".join(
        f"<li>{_badge(finding.severity)} {_line(finding.message, 1500)}"
        + (f' <span class="soft">{_line(finding.fix, 600)}</span>' if finding.fix else "")
        + "</li>"
        for finding in sorted(profile.findings, key=lambda finding: order[finding.severity])
    )
    return f'<h2>Findings</h2>\n<ul class="card notices">{items}</ul>'


def _shape(subject: "ReportSubject", profile: DataProfile) -> str:
    kinds = {str(file["name"]): file for file in subject.files}
    rows = [f"<tr><td>Source</td><td>{_code(source)}</td></tr>" for source in subject.sources]
    for name, file in kinds.items():
        words = ", ".join(str(file[key]) for key in ("kind", "encoding") if file[key])
        rows.append(f'<tr><td>File</td><td>{_code(name)} <span class="soft">{_line(words)}</span></td></tr>')
    rows += [
        f"<tr><td>{_line(role)}</td><td>from the column {_code(column)}</td></tr>"
        for role, column in profile.mapping.items()
    ]
    columns = ", ".join(_code(name) for name in profile.columns) or "none"
    rows.append(f"<tr><td>Columns</td><td>{columns}</td></tr>")
    return f"<h2>What it is</h2>\n<p>{_line(profile.evidence, 1000)}</p>\n{_table(('', ''), rows, kind='facts-table')}"


def _accounting(profile: DataProfile) -> str:
    sums = account(profile)
    parts = [("training", sums.train, "train"), ("held out", sums.held_out, "held-out")]
    parts += [("put aside for a test", sums.test, "test")] if sums.test else []
    parts += [(f"dropped: {reason_words(reason)}", count, "dropped") for reason, count in sums.dropped.items()]
    whole = max(1, sums.read + sums.repeated)
    rows = [
        f'<tr><td>{_line(words)}</td><td class="number">{count:,}</td><td class="number">{_percent(count, whole)}</td>'
        f'<td class="bars"><div class="bar {kind}"><i style="width:{100 * count / whole:.1f}%"></i></div></td></tr>'
        for words, count, kind in parts
    ]
    repeated = f" and {sums.repeated:,} repeated by weights" if sums.repeated else ""
    rows.append(
        f'<tr class="sum"><td>read{repeated}</td><td class="number">{whole:,}</td><td></td><td class="bars"></td></tr>'
    )
    heads = ("Rows", "Number", "Share", "")
    return f"<h2>Where each row went</h2>\n{_table(heads, rows, numbers=(1, 2))}"


def _percent(part: int, whole: int) -> str:
    share = 100 * part / whole
    return f"{share:.1f} %" if share >= 0.1 or not part else "&lt; 0.1 %"


def _checks(checks: Sequence[CheckResult]) -> str:
    if not checks:
        return ""
    rows = [_check_row(check) for check in sorted(checks, key=lambda check: not check.count)]
    note = "Each check has a switch in <code>data.cleaning</code>; those that found nothing are listed too."
    heads = ("Check", "Does", "Found", "Dropped", "Changed")
    table = _table(heads, rows, numbers=(2, 3, 4), kind="wide")
    return f'<h2>Checks of the rows</h2>\n<p class="soft">{note}</p>\n{table}'


def _check_row(check: CheckResult) -> str:
    name = f"{_line(check.name.replace('_', ' '))}{_places(check.places, check.count)}"
    numbers = "".join(
        f'<td class="number">{count:,}</td>' if count else '<td class="number faint">0</td>'
        for count in (check.count, check.dropped, check.changed)
    )
    return f'<tr><td>{name}</td><td class="soft">{_line(check.action)}</td>{numbers}</tr>'


def _places(places: Sequence[str], count: int) -> str:
    """Return rows folded away, because there may be a hundred."""
    if not places:
        return ""
    shown = places[:MAX_PLACES]
    more = f" and {count - len(shown):,} more" if count > len(shown) else ""
    listed = ", ".join(_line(place, 200) for place in shown)
    return f"<details><summary>which rows</summary><p>{listed}{more}</p></details>"


def _lengths(subject: "ReportSubject", profile: DataProfile) -> str:
    lengths = profile.lengths
    if lengths is None:
        return ""
    how = "estimated from characters" if lengths.estimated else f"counted with the tokenizer of {_line(subject.model)}"
    words = f"Median {lengths.p50:,}, 99 % at most {lengths.p99:,}, longest {lengths.longest:,}; {how}."
    if answers := answers_words(profile):
        words = f"{words} {answers.capitalize()}."
    chosen = f" The sequence length of this run is {subject.max_length:,}." if subject.max_length else ""
    chart = histogram(lengths, subject.max_length)
    drawn = f'<div class="card"><h3>Tokens per {measured_words(profile)}</h3>{chart}</div>' if chart else ""
    cuts = cut_rows(profile)
    table = f"<h3>What a sequence length cuts</h3>\n{_cuts(profile, cuts, subject.max_length)}" if cuts else ""
    return f'<h2>Lengths</h2>\n<p class="soft">{words}{chosen}</p>\n{drawn}\n{table}'


def histogram(lengths: LengthProfile, max_length: int | None = None) -> str:
    """Return the lengths of rows as an inline SVG, bars as wide as each other; empty when only quantiles are known.

    Args:
        lengths: Lengths of the rows.
        max_length: The bar that it falls into, and those beyond, are drawn as cut.
    """
    bins = length_bins(lengths)
    if not bins:
        return ""
    slot = (_WIDTH - 2 * _LEFT) / len(bins)
    most = max(each.num_rows for each in bins)
    floor = _HEIGHT - _BOTTOM
    box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="Rows by length in tokens"'
    parts = [f'<svg class="chart histogram" {box}>']
    for place, each in enumerate(bins):
        height = (floor - _TOP) * each.num_rows / max(1, most)
        left = _LEFT + place * slot
        beyond = " cut" if max_length is not None and each.up_to > max_length else ""
        middle = left + slot / 2
        words = f"{each.over + 1:,} to {each.up_to:,} tokens: {each.num_rows:,} rows"
        parts.append(
            f'<rect class="column{beyond}" x="{left + 2:.1f}" y="{floor - height:.1f}" width="{slot - 4:.1f}" '
            f'height="{height:.1f}"><title>{words}</title></rect>'
        )
        if each.num_rows:
            parts.append(_tick(middle, floor - height - 6, human_count(each.num_rows)))
        parts.append(_tick(middle, floor + 16, f"{each.up_to:,}" if each.up_to < 10_000 else human_count(each.up_to)))
    parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _LEFT}" y1="{floor}" y2="{floor}"/>')
    parts.append(
        f'<text class="axis" x="{_WIDTH / 2}" y="{_HEIGHT - 3}" text-anchor="middle">tokens, at most</text></svg>'
    )
    return "\n".join(parts)


def _tick(x: float, y: float, words: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{escape_html(words)}</text>'


def _cuts(profile: DataProfile, cuts: Sequence[CutRow], max_length: int | None) -> str:
    def number(value: int | None) -> str:
        return '<td class="number soft">n/a</td>' if value is None else f'<td class="number">{value:,}</td>'

    rows = [
        f'<tr{_chosen(cut, max_length)}><td class="number">{cut.length:,}</td><td class="number">{cut.num_cut:,}</td>'
        f'<td class="number">{_percent_of(cut.share)}</td>{number(cut.num_answers_cut)}{number(lost_in(profile, cut))}'
        f"{number(cut.lost_tokens)}</tr>"
        for cut in cuts
    ]
    cut_head, *others = (head.capitalize() for head in cut_heads(profile))
    heads = ("Length", cut_head, "Share", *others, "Tokens lost")
    return _table(heads, rows, numbers=range(6), kind="wide")


def _chosen(cut: CutRow, max_length: int | None) -> str:
    return ' class="chosen"' if cut.length == max_length else ""


def _percent_of(share: float) -> str:
    return "&lt; 0.1 %" if 0 < share < 0.001 else f"{100 * share:.1f} %"


def _preflight(checks: Sequence[PreflightCheck]) -> str:
    if not checks:
        return ""
    order = {"blocked": 0, "warning": 1, "passed": 2, "skipped": 3}
    rows = [_preflight_row(check) for check in sorted(checks, key=lambda check: order[check.status])]
    note = "Made on the very sequences that the trainer draws, before the first step."
    heads = ("Verdict", "", "Check")
    return f'<h2>Checks of what is trained</h2>\n<p class="soft">{note}</p>\n{_table(heads, rows)}'


def _preflight_row(check: PreflightCheck) -> str:
    words = " ".join(part for part in (_line(check.message, 800), _line(check.fix, 400)) if part)
    said = f'<p class="soft">{words}</p>' if words else ""
    return (
        f'<tr><td>{_badge(check.status)}</td><td class="soft id">{_line(check.id)}</td>'
        f"<td>{_line(check.title)}{said}{_places(check.rows, len(check.rows))}</td></tr>"
    )


def _split(subject: "ReportSubject", profile: DataProfile) -> str:
    method = subject.settings.get("data.split.method", "random")
    column = subject.settings.get("data.split.column")
    by = f" by {_code(column)}" if column else ""
    aside = f", {profile.num_test:,} put aside for a test" if profile.num_test else ""
    words = (
        f"{_line(method).capitalize()}{by}, seed {subject.seed}: {profile.num_train:,} training rows, "
        f"{profile.num_held_out:,} held out{aside}. The same rows, settings and seed give the same split."
    )
    rows = [f"<tr><td>{_code(path)}</td><td>{_line(value)}</td></tr>" for path, value in subject.settings.items()]
    table = _table(("Setting", "Value"), rows) if rows else ""
    return f"<h2>Split and settings</h2>\n<p>{words}</p>\n{table}"


def _examples(profile: DataProfile) -> str:
    if not profile.examples:
        return ""
    note = "As they are used; what looks like a secret is hidden."
    cards = "\n".join(
        '<div class="card sample">'
        + "".join(
            f"<h3>{_line(role)}</h3><pre>{escape_html(text, max_chars=MAX_EXAMPLE_CHARS)}</pre>"
            for role, text in example.items()
        )
        + "</div>"
        for example in profile.examples
    )
    return f'<h2>First rows</h2>\n<p class="soft">{note}</p>\n{cards}'


def _footer(subject: "ReportSubject", profile: DataProfile) -> str:
    lines = [f"Data sha256 {profile.sha256}." if profile.sha256 else "", f"ftwizard {metadata.version('ftwizard')}"]
    return "<footer>" + "".join(f"<p>{_line(line)}</p>" for line in lines if line) + "</footer>"
