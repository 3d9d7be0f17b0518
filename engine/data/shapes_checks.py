"""Checks of labelled and rated rows as a whole: what makes a set impossible or pointless to learn from.

Contradictions between rows, duplicates and imbalance are found by `engine.data.cleaning` for every shape.
"""

from collections import Counter
from collections.abc import Sequence

from engine.data.rows import MAX_ROWS_NAMED, Row
from engine.planning.profiles import Finding
from engine.text import clean_line

_NAME_CHARS = 40


def label_findings(train: Sequence[Row], held_out: Sequence[Row] = ()) -> list[Finding]:
    """Return what is wrong with the labels of a whole set.

    Args:
        train: Canonical rows with `label`, `labels` or `tags`; none where the first has none of them.
        held_out: Rows that the model is judged on.

    Returns:
        `data.single_label` (blocks): nothing can be told apart. `data.unseen_label` (warning): labels that only
        held-out rows have, which no training could teach.
    """
    if not (train and _may_have_labels(train[0])):
        return []
    counts = Counter(label for row in train for label in _labels(row))
    if not counts:
        return [_unlabelled(train)]
    findings = [_single(*counts.most_common(1)[0], train)] if len(counts) == 1 and not _any_unlabelled(train) else []
    findings += [_unnamed_tags()] if "tags" in train[0] and all(map(str.isdigit, counts)) else []
    unseen = [(label, row["id"]) for row in held_out for label in _labels(row) if label not in counts]
    return [*findings, *([_unseen(unseen)] if unseen else [])]


def _unnamed_tags() -> Finding:
    return Finding(
        code="data.unnamed_tags",
        message="The tags are numbers, and nothing says which of them is no entity: each number counts as an entity.",
        fix="Set token_classification.tag_names to their names in order, such as O, B-PER, I-PER.",
        path="token_classification.tag_names",
        severity="warning",
    )


def _may_have_labels(row: Row) -> bool:
    # Rows of one data set have one shape; those of a large one are not all read to see that they have no labels.
    return "label" in row or "labels" in row or "tags" in row


def _labels(row: Row) -> list[str]:
    if "labels" in row:
        return list(row["labels"])
    if "tags" in row:
        return list(dict.fromkeys(row["tags"]))
    if "label" not in row:
        return []
    return [str(row["label"]).lower() if isinstance(row["label"], bool) else row["label"]]


def _any_unlabelled(rows: Sequence[Row]) -> bool:
    """Return whether some rows have an empty list of labels: then one label can be told from none."""
    return any("labels" in row and not row["labels"] for row in rows)


def _unlabelled(rows: Sequence[Row]) -> Finding:
    return Finding(
        code="data.single_label",
        message=f"None of the {len(rows)} rows has a label (from {clean_line(rows[0]['id'])} on); nothing is learnt.",
        fix="Map the column that holds the labels.",
        path="data.source",
        severity="error",
    )


def _single(label: str, count: int, rows: Sequence[Row]) -> Finding:
    name = clean_line(label, max_chars=_NAME_CHARS)
    return Finding(
        code="data.single_label",
        message=clean_line(
            f"All {count} rows have the label {name!r} (from {rows[0]['id']} on); nothing is told apart."
        ),
        fix="Add rows with another label, or map the column that holds the labels.",
        path="data.source",
        severity="error",
    )


def _unseen(unseen: Sequence[tuple[str, str]]) -> Finding:
    names = list(dict.fromkeys(label for label, _ in unseen))
    places = list(dict.fromkeys(place for _, place in unseen))
    shown = ", ".join(repr(clean_line(name, max_chars=_NAME_CHARS)) for name in names[:MAX_ROWS_NAMED])
    more = f" and {len(places) - MAX_ROWS_NAMED} more" if len(places) > MAX_ROWS_NAMED else ""
    label = "label" if len(names) == 1 else "labels"
    return Finding(
        code="data.unseen_label",
        message=clean_line(
            f"{len(names)} {label} of the held-out rows never come in training ({shown}): "
            f"{', '.join(places[:MAX_ROWS_NAMED])}{more}.",
            max_chars=600,
        ),
        fix="Add training rows with them, or correct the spelling.",
        path="data.held_out",
        severity="warning",
    )
