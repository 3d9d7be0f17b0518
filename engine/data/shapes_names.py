"""Usual names of columns, and the columns of a table that have them."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from engine.data.shapes_facts import ColumnFacts
from engine.data.shapes_roles import Format, roles_of

# The surest name first. A name counts whatever its case and whatever joins its words.
USUAL: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation", "dialog", "dialogue", "chat", "turns"),
    "tools": ("tools", "functions", "available_tools"),
    "instruction": ("instruction", "instructions"),
    "input": ("input", "context"),
    "output": ("output", "response", "answer", "completion"),
    "prompt": ("prompt", "question", "instruction", "query", "request", "problem", "user", "human", "input"),
    "completion": (
        "completion",
        "answer",
        "response",
        "output",
        "reply",
        "command",
        "solution",
        "assistant",
        "target",
        "chosen_response",
    ),
    "source": ("source", "src", "document", "article", "dialogue", "dialog", "abstract", "source_text"),
    "target": ("target", "tgt", "summary", "highlights", "tldr", "target_text"),
    "text": ("text", "content", "document", "body", "passage", "sentence", "review", "utterance", "comment", "tweet"),
    "system": ("system", "system_prompt"),
    "label": ("label", "labels", "category", "class", "intent", "sentiment", "topic", "tag", "tags", "stars", "rating"),
    "label_name": ("label_text", "label_name", "label_names", "class_name", "category_name"),
    "tokens": ("tokens", "words"),
    "tags": ("tags", "ner_tags", "pos_tags", "labels", "chunk_tags", "ner", "entities"),
    "entities": ("entities", "spans", "ner", "annotations", "label", "labels"),
    "chosen": ("chosen", "chosen_response", "preferred", "response_chosen", "accepted", "better", "y_w"),
    "rejected": ("rejected", "rejected_response", "dispreferred", "response_rejected", "worse", "y_l"),
    "answer": ("answer", "ground_truth", "solution", "final_answer", "expected_answer", "reference"),
    "reward": ("reward", "rewards"),
}
_ALSO_NAMED: dict[tuple[Format, str], tuple[str, ...]] = {
    ("unpaired_preference", "label"): ("label", "is_good", "thumbs_up", "liked", "desirable", "accepted"),
    ("text_label", "text"): (*USUAL["text"], "query", "question", "title", "message", "input"),
}


_SPARSE_SHARE = 0.1
"""A column with a usual name that has fewer cells than this share of another one with a usual name is a slip of a few
rows: the others must not be read by it."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of the rows and what they look like.

    Attributes:
        columns: In order of appearance.
        facts: What the cells of each column look like.
    """

    columns: list[str]
    facts: dict[str, ColumnFacts]

    def named(self, shape: Format, role: str, taken: Collection[str] = ()) -> str | None:
        """Return the column with the surest usual name for a role whose cells suit it, slips of a few rows aside."""
        fullest_last = sorted(sorted(self.columns, reverse=True), key=self._filled)
        by_name = {_plain(column): column for column in fullest_last}
        named = [by_name[name] for name in _ALSO_NAMED.get((shape, role), USUAL[role]) if name in by_name]
        fit = [column for column in named if column not in taken and suits(role, self.facts[column])]
        fullest = max(map(self._filled, fit), default=0)
        return next((column for column in fit if self._filled(column) >= _SPARSE_SHARE * fullest), None)

    def _filled(self, column: str) -> int:
        return self.facts[column].num_filled

    def bind(self, shape: Format, given: Mapping[str, str]) -> dict[str, str]:
        """Return `{role: column}`: what is given, and columns with usual names for the other roles of a shape."""
        mapping = dict(given)
        for role in roles_of(shape):
            if role in mapping or (role == "completion" and shape == "messages"):
                continue
            column = self.named(shape, role, mapping.values())
            if column is not None:
                mapping[role] = column
        return {role: mapping[role] for role in roles_of(shape) if role in mapping}


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _text(facts: ColumnFacts) -> bool:
    return not facts.holds_turns and (facts.num_filled == 0 or facts.text + facts.strings + facts.numbers > 0.5)


def _one_text(facts: ColumnFacts) -> bool:
    return _text(facts) and facts.strings <= 0.5


_SUITS: dict[str, Callable[[ColumnFacts], bool]] = {
    "messages": lambda facts: facts.holds_turns,
    "tools": lambda facts: True,
    "chosen": lambda facts: facts.num_filled > 0,
    "rejected": lambda facts: facts.num_filled > 0,
    "reward": lambda facts: facts.numbers > 0.5,
    "label": lambda facts: not facts.holds_turns,
    "label_name": lambda facts: facts.text > 0.5,
    "text": lambda facts: facts.text > 0.5,
    "tokens": lambda facts: facts.strings > 0.5,
    "tags": lambda facts: facts.plain_lists > 0.5,
    "entities": lambda facts: facts.spans > 0.5,
    "source": _text,
    "target": _text,
}


def suits(role: str, facts: ColumnFacts) -> bool:
    """Return whether most cells of a column are of the kind that a role needs."""
    return _SUITS.get(role, _one_text)(facts)
