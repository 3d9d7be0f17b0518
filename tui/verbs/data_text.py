"""What was found in data, as lines of text that are readable at 80 columns and plain where colour is missing."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

from engine.text import clean, clean_line, human_bytes, human_count

if TYPE_CHECKING:
    from engine.planning.profiles import CheckResult, DataProfile, PreflightCheck

WIDTH = 80
_MARGIN = 10
_BAR_CELLS = 40
_VALUE_CHARS = 400
_EXAMPLES = 2
_MARKS = {"passed": "+", "warning": "!", "blocked": "x", "skipped": "-"}
_COLOURS = {"passed": typer.colors.GREEN, "warning": typer.colors.YELLOW, "blocked": typer.colors.RED}


def labelled(label: str, words: str) -> list[str]:
    """Return words behind a label, wrapped under themselves."""
    return textwrap.wrap(
        words,
        WIDTH,
        initial_indent=label.ljust(_MARGIN),
        subsequent_indent=" " * _MARGIN,
        break_on_hyphens=False,
    ) or [label]


def title(words: str) -> str:
    """Return a heading."""
    return typer.style(words, bold=True)


def profile_lines(profile: "DataProfile", files: Sequence[Mapping[str, Any]], *, objective: str) -> list[str]:
    """Return everything that the data step shows, section by section; findings are printed by `print_problems`.

    Args:
        profile: Facts of the data.
        files: Name, kind, encoding and size of each file.
        objective: What the rows were read for.
    """
    sections = (
        ("", _head(profile, files, objective)),
        ("Where each row went", accounting_lines(profile)),
        ("Checks of the rows", check_lines(profile.checks)),
        ("Lengths", length_lines(profile)),
        ("Checks of what is trained", preflight_lines(profile.preflight)),
        ("First rows, as they are used", _example_lines(profile)),
    )
    lines: list[str] = []
    for name, body in sections:
        if body:
            lines += ["", title(name), *body] if name else body
    return lines


def _head(profile: "DataProfile", files: Sequence[Mapping[str, Any]], objective: str) -> list[str]:
    lines = []
    for number, file in enumerate(files[:5]):
        words = [str(file["kind"]), str(file["encoding"]), human_bytes(file["bytes"])]
        weight = f", weight {file['weight']:g}" if file["weight"] != 1 else ""
        lines += labelled(
            "" if number else "Files", f"{clean_line(file['name'])}: {', '.join(filter(None, words))}{weight}"
        )
    if len(files) > 5:
        lines += labelled("", f"and {len(files) - 5:,} more files")
    lines += labelled("Shape", clean_line(profile.evidence) or "not known")
    lines += labelled("Columns", ", ".join(clean_line(name) for name in profile.columns) or "none")
    return [*lines, *labelled("Objective", clean_line(objective))]


def accounting_lines(profile: "DataProfile", *, kept: bool = False) -> list[str]:
    """Return the sum of the rows, then a line for each reason why rows are not used.

    Args:
        profile: Facts of the data.
        kept: Nothing was split: training rows are those that are kept.
    """
    from engine.planning.data_words import account, reason_words

    sums = account(profile)
    dropped = [f"  {count:>9,}  {clean_line(reason_words(reason))}" for reason, count in sums.dropped.items()]
    parts = [f"{sums.train:,} kept", *([f"{sums.num_dropped:,} dropped"] if sums.dropped else [])]
    return [f"  {f'{sums.read:,} read = ' + ' + '.join(parts) if kept else sums.sentence()}", *dropped]


def check_lines(checks: "Sequence[CheckResult]") -> list[str]:
    """Return a table of the checks of rows; those that found nothing share a line."""
    found = [check for check in checks if check.count]
    clean_ones = [check.name.replace("_", " ") for check in checks if not check.count]
    lines = [f"  {'check':<19} {'does':<11} {'found':>9} {'dropped':>9} {'changed':>9}"] if found else []
    for check in found:
        numbers = f"{check.count:>9,} {check.dropped:>9,} {check.changed:>9,}"
        lines.append(f"  {check.name.replace('_', ' '):<19} {check.action:<11} {numbers}")
    if clean_ones:
        lines += textwrap.wrap(
            f"nothing found: {', '.join(clean_ones)}", WIDTH, initial_indent="  ", subsequent_indent="    "
        )
    return lines


def length_lines(profile: "DataProfile") -> list[str]:
    """Return quantiles, a histogram and what each sequence length would cut."""
    from engine.planning.data_words import answers_words, length_bins, measured_words

    lengths = profile.lengths
    if lengths is None:
        return []
    about = "estimated from characters; --model counts them" if lengths.estimated else "counted"
    lines = textwrap.wrap(
        f"tokens per {measured_words(profile)}: median {lengths.p50:,}, 99 % at most {lengths.p99:,}, "
        f"longest {lengths.longest:,}; {human_count(lengths.total)} in all ({about})",
        WIDTH,
        initial_indent="  ",
        subsequent_indent="  ",
    )
    lines += [f"  {words}" for words in [answers_words(profile)] if words]
    bins = length_bins(lengths)
    most = max((each.num_rows for each in bins), default=1)
    for each in bins:
        # A bar of a few rows beside thousands is still seen.
        cells = max(round(_BAR_CELLS * each.num_rows / max(1, most)), 1 if each.num_rows else 0)
        span = f"{each.over + 1:,} to {each.up_to:,}"
        lines.append(f"  {span:>17}  {'█' * cells:<{_BAR_CELLS}} {each.num_rows:>8,}".rstrip())
    return [*lines, *_cut_lines(profile)]


def _cut_lines(profile: "DataProfile") -> Iterator[str]:
    from engine.planning.data_words import cut_heads, cut_rows, lost_in

    cuts = cut_rows(profile)
    if not cuts:
        return
    cut_head, ended_head, lost_head = cut_heads(profile)
    yield ""
    yield f"  {'length':>9}  {cut_head:>11}     share  {ended_head:>11}  {lost_head:>13}  tokens lost"
    for cut in cuts:
        known = (cut.num_answers_cut, lost_in(profile, cut), cut.lost_tokens)
        others = "  ".join(
            f"{'n/a' if number is None else f'{number:,}':>{width}}"
            for number, width in zip(known, (11, 13, 11), strict=True)
        )
        yield f"  {cut.length:>9,}  {cut.num_cut:>11,}  {100 * cut.share:>6.1f} %  {others}"


def preflight_lines(checks: "Sequence[PreflightCheck]") -> list[str]:
    """Return a line for each check of the rendered rows, with what it found."""
    lines = []
    for check in checks:
        mark = typer.style(_MARKS[check.status], fg=_COLOURS.get(check.status))
        lines.append(f"  {mark} {clean_line(check.id):<4} {clean_line(check.title)}")
        if check.status != "passed" and check.message:
            lines += _under(f"{clean_line(check.message)} {clean_line(check.fix)}".strip())
        if check.status in ("warning", "blocked") and check.rows:
            lines += _under(f"rows: {clean_line(', '.join(check.rows[:10]))}")
    return lines


def _under(words: str) -> list[str]:
    return textwrap.wrap(words, WIDTH, initial_indent=" " * 9, subsequent_indent=" " * 9, break_on_hyphens=False)


def _example_lines(profile: "DataProfile") -> list[str]:
    lines: list[str] = []
    for example in profile.examples[:_EXAMPLES]:
        for role, text in example.items():
            label = f"  {clean_line(role, max_chars=12)}: "
            shown = clean(text, max_chars=_VALUE_CHARS).splitlines() or ["(nothing)"]
            for number, line in enumerate(shown):
                lead = label if number == 0 else " " * len(label)
                lines += textwrap.wrap(
                    line, WIDTH, initial_indent=lead, subsequent_indent=" " * len(label), break_on_hyphens=False
                ) or [lead.rstrip()]
        lines.append("")
    return lines[:-1]
