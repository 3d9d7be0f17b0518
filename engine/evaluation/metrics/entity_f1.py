"""F1 of named entities: a span counts when its type, its first and its last token are right."""

from collections.abc import Sequence

import datasets
import evaluate

_DESCRIPTION = (
    "Precision, recall and F1 of entities, counted over all rows. Spans are read from tags as the CoNLL-2000 script "
    "and seqeval's default mode read them, so that tags out of order still make a span."
)
_INPUTS = """
Args:
    predictions (list of lists of str): Predicted tags, one a token: BIO, BIOES, BILOU, IO, or bare types and O.
    references (the same): Expected tags.
Returns:
    entity_precision, entity_recall, entity_f1 (float): Between 0 and 1; not a number where nothing is divided by,
        as the precision where no entity was found, or all three where none is there and none was found.
"""
_POSITIONS = {"B": "B", "I": "I", "E": "E", "S": "S", "L": "E", "U": "S"}

Entity = tuple[str, int, int]
"""Type, first and last token."""


class EntityF1(evaluate.Metric):
    """Count entities over all rows, then divide once."""

    def _info(self) -> evaluate.MetricInfo:
        tags = datasets.List(datasets.Value("string"))
        features = datasets.Features({"predictions": tags, "references": tags})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[list[str]], references: list[list[str]]) -> dict[str, float]:
        rows = row_entities(predictions, references)
        right, found, expected = (sum(row[place] for row in rows) for place in range(3))
        return {
            "entity_precision": _ratio(right, found),
            "entity_recall": _ratio(right, expected),
            "entity_f1": _ratio(2 * right, found + expected),
        }


def row_entities(
    predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]
) -> list[tuple[int, int, int]]:
    """Return how many entities of every row were right, found and expected.

    Raises:
        ValueError: A row has another number of predicted than of expected tags.
    """
    counts = []
    for predicted, expected in zip(predictions, references, strict=True):
        if len(predicted) != len(expected):
            raise ValueError(f"{len(predicted)} predicted tags stand against {len(expected)} expected ones")
        found, wanted = set(entities(predicted)), set(entities(expected))
        counts.append((len(found & wanted), len(found), len(wanted)))
    return counts


def entities(tags: Sequence[str]) -> list[Entity]:
    """Return the entities that tags spell, in order.

    A tag goes on with the entity before it when it is an inside or an end of the same type and that entity was not
    ended; any other tag but O begins one. So a lone `I-PER` is an entity, and `B-PER I-LOC` are two.
    """
    spans: list[Entity] = []
    open_type: str | None = None
    for place, tag in enumerate(tags):
        position, kind = _read_tag(tag)
        if position == "O":
            open_type = None
            continue
        if position in ("I", "E") and kind == open_type:
            spans[-1] = (kind, spans[-1][1], place)
        else:
            spans.append((kind, place, place))
        open_type = None if position in ("E", "S") else kind
    return spans


def _read_tag(tag: str) -> tuple[str, str]:
    """Return the position of a tag (B, I, E, S or O) and its type; a bare type is an inside, as in IO tags."""
    if tag == "O":
        return "O", ""
    prefix, dash, kind = tag.partition("-")
    if prefix in _POSITIONS and (dash or not kind):
        return _POSITIONS[prefix], kind
    return "I", tag


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")
