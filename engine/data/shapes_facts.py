"""What the cells of each column look like: the ground on which shapes are detected, whatever the columns are called."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.data.rows import RawRow
from engine.data.shapes_cells import number_of, truth_of
from engine.data.shapes_transcripts import is_transcript
from engine.data.shapes_turns import ROLE_ALIASES, as_list, looks_like_turn, looks_like_turns

LOOKED_AT = 1000
_LOOKED_CHARS = 4000
LABEL_CHARS = 60
"""Names of classes are short; a longer cell is text."""
MIN_REPEATS = 2.0
"""Rows per different value from which on values look like classes."""


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """Shares are of the filled cells of the rows looked at; a share of nothing is 0.

    Attributes:
        name: The column.
        num_filled: Cells looked at that are not null or blank.
        text: Share of cells that are text.
        numbers: Share of numbers, also spelled ones.
        truths: Share of marks such as true and false or 0 and 1.
        strings: Share of lists of strings.
        plain_lists: Share of lists of strings or numbers.
        prose: Share of cells with more than one word, or with words of a script that may not part them.
        spans: Share of lists of entities, each with its start and end in a text.
        turns: Share of lists of turns, also as JSON in a string.
        one_turn: Share of single turns of the assistant.
        transcripts: Share of texts that write a whole conversation down.
        sharegpt: Share of the lists of turns that say `from` and `value`.
        unanswered: Share of the lists of turns in which only the user and the system speak.
        questions: Share of texts that end with a question mark.
        mean_chars: Mean length of texts and of lists of strings.
        longest_chars: The longest of them.
        num_distinct: Different texts, numbers or truths.
    """

    name: str
    num_filled: int
    text: float = 0.0
    numbers: float = 0.0
    truths: float = 0.0
    strings: float = 0.0
    plain_lists: float = 0.0
    spans: float = 0.0
    prose: float = 0.0
    turns: float = 0.0
    one_turn: float = 0.0
    transcripts: float = 0.0
    sharegpt: float = 0.0
    unanswered: float = 0.0
    questions: float = 0.0
    mean_chars: float = 0.0
    longest_chars: int = 0
    num_distinct: int = 0

    @property
    def holds_turns(self) -> bool:
        """Whether most cells are conversations."""
        return self.turns + self.transcripts > 0.5

    @property
    def holds_text(self) -> bool:
        """Whether most cells are text, or lists of strings that make one."""
        return self.text + self.strings > 0.5 and not self.turns > 0.5

    @property
    def repeats(self) -> float:
        """Rows for each different value."""
        return self.num_filled / self.num_distinct if self.num_distinct else 0.0

    @property
    def looks_like_labels(self) -> bool:
        """Whether the values are short and come again and again."""
        return self.num_filled > 0 and self.longest_chars <= LABEL_CHARS and self.repeats >= MIN_REPEATS


def facts_of(rows: Sequence[RawRow], columns: Sequence[str]) -> dict[str, ColumnFacts]:
    """Return the facts of each column, from rows at even distances.

    Args:
        rows: Rows of all files.
        columns: Columns to look at.
    """
    filled: dict[str, list[object]] = {column: [] for column in columns}
    # Each row is read once for all columns, and of a long one its beginning is kept.
    for row in rows[:: max(1, -(-len(rows) // LOOKED_AT))]:
        for column, cells in filled.items():
            cell = row.values.get(column)
            if cell is not None and not (isinstance(cell, str) and not cell.strip()):
                cells.append(_shortened(cell))
    return {column: _facts(column, cells) for column, cells in filled.items()}


def _facts(name: str, filled: Sequence[object]) -> ColumnFacts:
    texts = [cell for cell in filled if isinstance(cell, str)]
    talks = [as_list(cell) for cell in filled if looks_like_turns(cell)]
    string_lists = [cell for cell in filled if isinstance(cell, list) and all(isinstance(item, str) for item in cell)]
    lengths = [len(text) for text in texts] + [sum(map(len, items)) for items in string_lists]
    plain = [cell for cell in filled if isinstance(cell, (str, int, float))]

    def share(holds: Callable[[object], bool], cells: Sequence[object] = filled) -> float:
        return sum(map(holds, cells)) / len(cells) if cells else 0.0

    return ColumnFacts(
        name=name,
        num_filled=len(filled),
        text=len(texts) / len(filled) if filled else 0.0,
        numbers=share(lambda cell: number_of(cell) is not None),
        truths=share(lambda cell: truth_of(cell) is not None),
        strings=len(string_lists) / len(filled) if filled else 0.0,
        plain_lists=share(lambda cell: isinstance(cell, list) and all(isinstance(item, (str, int)) for item in cell)),
        spans=share(_holds_spans),
        prose=share(_is_prose),
        turns=len(talks) / len(filled) if filled else 0.0,
        one_turn=share(looks_like_turn),
        transcripts=share(lambda cell: isinstance(cell, str) and is_transcript(cell)),
        sharegpt=share(lambda talk: isinstance(talk, list) and "from" in talk[0], talks),
        unanswered=share(lambda talk: isinstance(talk, list) and all(map(_asks, talk)), talks),
        questions=share(lambda text: isinstance(text, str) and text.rstrip().endswith(("?", "？", "؟")), texts),
        mean_chars=sum(lengths) / len(lengths) if lengths else 0.0,
        longest_chars=max(lengths, default=0),
        num_distinct=len({str(cell) for cell in plain}),
    )


def _holds_spans(cell: object) -> bool:
    if isinstance(cell, dict):
        cell = cell.get("entities")
    if not isinstance(cell, list):
        return False
    return all(
        (isinstance(item, dict) and any(key.startswith("start") for key in item))
        or (isinstance(item, list) and len(item) == 3 and isinstance(item[0], int) and isinstance(item[1], int))
        for item in cell
    )


def _is_prose(cell: object) -> bool:
    text = " ".join(cell) if isinstance(cell, list) and all(isinstance(item, str) for item in cell) else cell
    if not isinstance(text, str) or text.lstrip()[:1] in ("{", "["):
        return False
    return len(text.split(maxsplit=1)) > 1 or not text.isascii()


def _shortened(cell: object) -> object:
    """Return a long text cut off, but never one that may be JSON."""
    long = isinstance(cell, str) and len(cell) > _LOOKED_CHARS and cell.lstrip()[:1] != "["
    return cell[:_LOOKED_CHARS] if long and isinstance(cell, str) else cell


def _asks(turn: object) -> bool:
    role = turn.get("role", turn.get("from")) if isinstance(turn, dict) else None
    return isinstance(role, str) and ROLE_ALIASES.get(role.strip().lower()) in ("user", "system")
