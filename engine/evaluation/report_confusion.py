"""The part of a report that tells which labels were mistaken for which."""

from collections.abc import Mapping, Sequence
from typing import Any

from engine.evaluation.markup import escape_html, escape_markdown
from engine.text import clean_line

TITLE = "What was mistaken for what"
MAX_MATRIX_LABELS = 30
"""A larger matrix is wider than the page, and nearly empty: its most confused pairs say more."""
_ROOMY_LABELS = 15
MAX_PAIRS = 20
NOT_GIVEN, NOT_EXPECTED = "(not given)", "(not expected)"
"""Stand in for the missing side of a mistake where rows have several labels."""
_MAX_LABEL_CHARS = 60


def confusion_facts(after: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the matrix of the finished model with its most frequent mistakes; None where rows have no labels.

    Args:
        after: Content of `after.json`; empty where the run did not come that far.
    """
    confusion = after.get("confusion")
    if not confusion:
        return None
    per_label = confusion["per_label"]
    num_rows = sum(per_label[0]) if per_label else sum(count for _, _, count in confusion["cells"])
    return {**confusion, "num_rows": num_rows, "mistakes": most_frequent_mistakes(confusion)}


def most_frequent_mistakes(confusion: Mapping[str, Any], limit: int = MAX_PAIRS) -> list[dict[str, Any]]:
    """Return the pairs of labels that were confused most often.

    Args:
        confusion: As in a measurement: `labels`, and `cells` or `per_label`.
        limit: Pairs returned at most.

    Returns:
        `{expected, given, rows, of}` each, the most rows first; `of` counts the rows that could be.
    """
    mistakes = _of_sets(confusion) if confusion["per_label"] else _of_cells(confusion)
    mistakes.sort(key=lambda mistake: (-mistake["rows"], -mistake["rows"] / mistake["of"]))
    return mistakes[:limit]


def _of_cells(confusion: Mapping[str, Any]) -> list[dict[str, Any]]:
    labels, cells = confusion["labels"], confusion["cells"]
    rows_of = _rows_of(cells)
    return [
        {"expected": labels[expected], "given": labels[given], "rows": count, "of": rows_of[expected]}
        for expected, given, count in cells
        if expected != given
    ]


def _rows_of(cells: Sequence[Sequence[int]]) -> dict[int, int]:
    """Return how many rows expect each label."""
    rows_of: dict[int, int] = {}
    for expected, _, count in cells:
        rows_of[expected] = rows_of.get(expected, 0) + count
    return rows_of


def _of_sets(confusion: Mapping[str, Any]) -> list[dict[str, Any]]:
    mistakes = []
    for label, (absent, wrong, missed, right) in zip(confusion["labels"], confusion["per_label"], strict=True):
        if missed:
            mistakes.append({"expected": label, "given": NOT_GIVEN, "rows": missed, "of": missed + right})
        if wrong:
            mistakes.append({"expected": NOT_EXPECTED, "given": label, "rows": wrong, "of": absent + wrong})
    return mistakes


def confusion_markdown(confusion: Mapping[str, Any] | None) -> str:
    """Return the most frequent mistakes as a Markdown section; empty where rows have no labels."""
    if not confusion:
        return ""
    rows = [
        f"| {_markdown_label(mistake['expected'])} | {_markdown_label(mistake['given'])} "
        f"| {mistake['rows']:,} of {mistake['of']:,} |"
        for mistake in confusion["mistakes"]
    ]
    table = ["| expected | given | rows |", "|---|---|---:|", *rows] if rows else [_none_wrong(confusion)]
    return "\n".join([f"## {TITLE}", "", *table])


def _markdown_label(label: str) -> str:
    return escape_markdown(label, max_chars=_MAX_LABEL_CHARS)


def _none_wrong(confusion: Mapping[str, Any]) -> str:
    return f"No label of the {confusion['num_rows']:,} held-out rows was wrong."


def confusion_section(confusion: Mapping[str, Any] | None) -> str:
    """Return the section as HTML: the matrix where it fits the page, else the most frequent mistakes."""
    if not confusion:
        return ""
    if confusion["per_label"]:
        cards = [_label_table(confusion)]
    elif len(confusion["labels"]) <= MAX_MATRIX_LABELS:
        cards = [_matrix(confusion)]
    else:
        cards = [_mistakes(confusion)]
    return f"<h2>{TITLE}</h2>\n" + "\n".join(cards)


def _matrix(confusion: Mapping[str, Any]) -> str:
    """Return the heat map: one row for each expected label, shaded by the share of its rows."""
    labels, rows_of = confusion["labels"], _rows_of(confusion["cells"])
    counts = {(expected, given): count for expected, given, count in confusion["cells"]}
    note = (
        f"{confusion['num_rows']:,} held-out rows: expected labels down, given labels across, rows counted. The "
        "stronger the colour, the larger the share of the expected label; on the diagonal they are right."
    )
    heads = "".join(f'<th scope="col"><span>{_html_label(label)}</span></th>' for label in labels)
    kind = "matrix" if len(labels) <= _ROOMY_LABELS else "matrix small"
    body = "\n".join(
        f'<tr><th scope="row" title="{_html_label(label)}">{_html_label(label)}</th>'
        + "".join(
            _cell(counts.get((row, column), 0), rows_of.get(row, 0), row == column) for column in range(len(labels))
        )
        + f'<td class="sum">{rows_of.get(row, 0):,}</td></tr>'
        for row, label in enumerate(labels)
    )
    return (
        f'<p class="soft">{escape_html(note)}</p>\n<div class="card table"><table class="{kind}"><thead><tr><th></th>'
        f'{heads}<th scope="col" class="sum"><span>rows</span></th></tr></thead><tbody>\n{body}\n</tbody></table></div>'
    )


def _cell(count: int, of: int, right: bool) -> str:
    if not count:
        return "<td></td>"
    share = count / of
    kind = ("right" if right else "wrong") + (" strong" if share > 0.55 else "")
    return f'<td class="{kind}" style="--share:{100 * share:.0f}%">{count:,}</td>'


def _mistakes(confusion: Mapping[str, Any]) -> str:
    mistakes = confusion["mistakes"]
    if not mistakes:
        return f'<p class="soft">{escape_html(_none_wrong(confusion))}</p>'
    note = (
        f"{confusion['num_rows']:,} held-out rows with {len(confusion['labels']):,} labels: the pairs that were "
        "confused most often."
    )
    rows = "\n".join(
        f"<tr><td>{_html_label(mistake['expected'])}</td><td>{_html_label(mistake['given'])}</td>"
        f'<td class="number">{mistake["rows"]:,} of {mistake["of"]:,}</td>'
        '<td class="bars"><div class="bar">'
        f'<i class="wrong" style="width:{100 * mistake["rows"] / mistake["of"]:.1f}%"></i></div></td></tr>'
        for mistake in mistakes
    )
    head = '<tr><th>Expected</th><th>Given</th><th class="number">Rows</th><th class="bars"></th></tr>'
    return _table(note, head, rows)


def _label_table(confusion: Mapping[str, Any]) -> str:
    """Return what was found, missed and wrongly given of each label, the most mistakes first."""
    counted = list(zip(confusion["labels"], confusion["per_label"], strict=True))
    counted.sort(key=lambda item: -(item[1][1] + item[1][2]))
    left_out = len(counted) - MAX_MATRIX_LABELS
    note = f"{confusion['num_rows']:,} held-out rows, each with any number of labels; the most mistakes first" + (
        f", {left_out:,} labels with fewer mistakes left out." if left_out > 0 else "."
    )
    rows = "\n".join(
        f'<tr><td>{_html_label(label)}</td><td class="number">{missed + right:,}</td><td class="number">{right:,}</td>'
        f'<td class="number">{missed:,}</td><td class="number">{wrong:,}</td></tr>'
        for label, (_, wrong, missed, right) in counted[:MAX_MATRIX_LABELS]
    )
    titles = ("Expected in", "Found", "Missed", "Wrongly given")
    head = "<tr><th>Label</th>" + "".join(f'<th class="number">{title}</th>' for title in titles) + "</tr>"
    return _table(note, head, rows)


def _table(note: str, head: str, rows: str) -> str:
    return (
        f'<p class="soft">{escape_html(note)}</p>\n<div class="card table"><table class="dense"><thead>{head}</thead>'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _html_label(label: str) -> str:
    return escape_html(clean_line(label, max_chars=_MAX_LABEL_CHARS)) or "(empty)"
