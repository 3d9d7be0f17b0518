"""Detectors: each looks for one shape in the columns and says why it believes in it, and how much.

Names that people use count, and so do the cells: a list of turns is a conversation whatever its column is called, and a
column called `messages` that holds plain text is none. Confidence is a judgement, not a probability: 0.95 is a usual
name whose cells agree, 0.9 cells that leave no doubt, 0.85 cells that hardly do; below 0.8 a person is asked.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from engine.data.shapes_facts import ColumnFacts
from engine.data.shapes_names import Table
from engine.data.shapes_roles import NEEDED, Format

BY_NAME, CERTAIN, LIKELY = 0.95, 0.9, 0.85
ASK, DOUBT, GUESS = 0.6, 0.5, 0.3
NAMES = "by their names"
_ENOUGH_ROWS = 5
"""Rows from which on cells alone are judged."""
_PROSE_CHARS = 20.0
_LONG_CHARS = 60.0
_OFFERED_TEXTS = 3


@dataclass(frozen=True, slots=True)
class Guess:
    """One reading of the columns: shape, `{role: column}`, the reason as half a sentence, confidence from 0 to 1."""

    format: Format
    mapping: dict[str, str]
    why: str
    confidence: float


def guesses(table: Table) -> list[Guess]:
    """Return every reading of the columns, the surest first; the more specific shape wins a tie."""
    found = [guess for detector in _DETECTORS for guess in detector(table)]
    return sorted(found, key=lambda guess: -guess.confidence)


def _complete(table: Table, shape: Format) -> dict[str, str] | None:
    mapping = table.bind(shape, {})
    return mapping if all(role in mapping for role in NEEDED[shape]) else None


def _preference(table: Table) -> Iterator[Guess]:
    mapping = _complete(table, "preference")
    if mapping is None:
        return
    chosen = table.facts[mapping["chosen"]]
    if chosen.holds_turns and chosen.transcripts > chosen.turns:
        whole = {role: column for role, column in mapping.items() if role != "prompt"}
        share = _percent(chosen.transcripts)
        why = f"because {share} of the chosen cells are whole transcripts; what both sides begin with is the prompt"
        yield Guess("preference", whole, why, BY_NAME)
        return
    if "prompt" not in mapping and (column := _turn_columns(table)):
        mapping = {"prompt": column[0], **mapping}
    has_prompt = "prompt" in mapping or chosen.holds_turns
    why = NAMES if has_prompt else "by their names, but no column holds the prompt"
    yield Guess("preference", mapping, why, BY_NAME if has_prompt else DOUBT)


def _unpaired(table: Table) -> Iterator[Guess]:
    mapping = _complete(table, "unpaired_preference")
    if mapping is None:
        return
    label = table.facts[mapping["label"]]
    if label.truths > 0.9 and label.num_distinct <= 2:
        yield Guess("unpaired_preference", mapping, "because the labels are true or false", BY_NAME)


def _messages(table: Table) -> Iterator[Guess]:
    named = table.named("messages", "messages")
    columns = [named] if named else _turn_columns(table)
    for column in columns:
        facts = table.facts[column]
        confidence = BY_NAME if named else CERTAIN if len(columns) == 1 else DOUBT
        why = f"because {_percent(max(facts.turns, facts.transcripts))} of its cells are {_turns_in_words(facts)}"
        if facts.turns > 0.5 and facts.unanswered > 0.5:
            confidence, why = GUESS, f"{why}, but few of them hold an answer"
        yield Guess("messages", table.bind("messages", {"messages": column}), why, confidence)


def _turn_columns(table: Table) -> list[str]:
    sides = {table.named("preference", "chosen"), table.named("preference", "rejected")}
    return sorted(column for column, facts in table.facts.items() if facts.holds_turns and column not in sides)


def _turns_in_words(facts: ColumnFacts) -> str:
    if facts.transcripts > facts.turns:
        return "transcripts of Human: and Assistant:"
    return "lists of turns with from and value" if facts.sharegpt > 0.5 else "lists of turns with role and content"


def _alpaca(table: Table) -> Iterator[Guess]:
    mapping = _complete(table, "alpaca")
    # Two columns of instruction and output alone are a prompt and its completion.
    if mapping is not None and "input" in mapping:
        yield Guess("alpaca", mapping, NAMES, BY_NAME)


def _pair(table: Table) -> Iterator[Guess]:
    mapping = _complete(table, "prompt_completion")
    if mapping is not None:
        yield Guess("prompt_completion", mapping, NAMES, BY_NAME)


def _source_target(table: Table) -> Iterator[Guess]:
    mapping = _complete(table, "source_target")
    if mapping is not None:
        lists = [role for role in ("source", "target") if table.facts[mapping[role]].strings > 0.5]
        joined = f"; lists of strings ({' and '.join(lists)}) are joined with a space" if lists else ""
        yield Guess("source_target", mapping, NAMES + joined, CERTAIN)


def _text_label(table: Table) -> Iterator[Guess]:
    mapping = _complete(table, "text_label")
    if mapping is not None:
        label = table.facts[mapping["label"]]
        few = label.num_filled < 2 * _ENOUGH_ROWS
        short = label.plain_lists > 0.5 or label.looks_like_labels or (few and label.longest_chars <= 60)
        rival = _complete(table, "prompt_completion") is not None
        why = f"by their names; {label.num_distinct} different labels" if label.num_distinct else NAMES
        yield Guess("text_label", mapping, why, DOUBT if rival else BY_NAME if short else ASK)
        return
    labels = [facts for facts in table.facts.values() if facts.looks_like_labels and facts.num_filled >= _ENOUGH_ROWS]
    texts = _prose(table)
    for facts in sorted(labels, key=lambda facts: facts.name):
        if len(texts) == 1 and len(labels) == 1 and facts.num_distinct > 1:
            why = f"because {facts.name!r} has only {facts.num_distinct} different values"
            yield Guess("text_label", {"text": texts[0].name, "label": facts.name}, why, ASK)


def _word_tags(table: Table) -> Iterator[Guess]:
    mapping = _complete(table, "word_tags")
    if mapping is not None and mapping["tokens"] != mapping["tags"]:
        yield Guess("word_tags", mapping, NAMES, BY_NAME)


def _entity_spans(table: Table) -> Iterator[Guess]:
    mapping = _complete(table, "entity_spans")
    if mapping is not None:
        why = f"because {_percent(table.facts[mapping['entities']].spans)} of the cells are places with a label"
        yield Guess("entity_spans", mapping, why, BY_NAME)


def _by_content(table: Table) -> Iterator[Guess]:
    """Two columns of prose are probably a question and an answer, or a long text and a short one made of it."""
    if _pair_is_named(table):
        return
    texts = _prose(table)[:2]
    if len(texts) < 2:
        return
    longer, shorter = texts
    asking = [facts for facts in texts if facts.questions >= 0.6]
    if len(asking) == 1 and (answer := texts[1 - texts.index(asking[0])]).questions <= 0.3:
        why = f"because {_percent(asking[0].questions)} of the prompts end with a question mark"
        mapping = {"prompt": asking[0].name, "completion": answer.name}
        yield Guess("prompt_completion", mapping, why, LIKELY if len(_prose(table)) == 2 else ASK)
        return
    why = "because both hold prose and the first is longer"
    yield Guess("source_target", {"source": longer.name, "target": shorter.name}, why, ASK)
    why = "because both hold prose, if the shorter one asks for the longer"
    yield Guess("prompt_completion", {"prompt": shorter.name, "completion": longer.name}, why, DOUBT)


def _pair_is_named(table: Table) -> bool:
    return any(_complete(table, shape) for shape in ("prompt_completion", "source_target", "preference", "messages"))


def _prose(table: Table) -> list[ColumnFacts]:
    """Return columns of running text, the longest first: no labels, names, addresses or conversations."""
    found = [
        facts
        for facts in table.facts.values()
        if facts.holds_text
        and facts.num_filled >= _ENOUGH_ROWS
        and facts.mean_chars >= _PROSE_CHARS
        and facts.prose > 0.5
        and not facts.looks_like_labels
        and not facts.holds_turns
    ]
    return sorted(found, key=lambda facts: (-facts.mean_chars, facts.name))


def _prompts(table: Table) -> Iterator[Guess]:
    mapping = _complete(table, "prompts")
    column = mapping["prompt"] if mapping else None
    if mapping is None or column is None:
        return
    if mapping.get("answer") == mapping.get("completion"):
        mapping.pop("completion", None)
    if "reward" in mapping:
        yield Guess("prompts", mapping, NAMES, BY_NAME)
    else:
        mapping.pop("completion", None)
        # Beside answers it is doubtful that the prompts alone are meant.
        yield Guess("prompts", mapping, NAMES, ASK if _pair_is_named(table) else CERTAIN)


def _text(table: Table) -> Iterator[Guess]:
    named = table.named("text", "text")
    if named is not None:
        yield Guess("text", {"text": named}, "by its name", CERTAIN)
        return
    texts = [facts for facts in _prose(table) if facts.text > 0.5]
    for facts in texts[:_OFFERED_TEXTS]:
        alone = len(texts) == 1 and facts.mean_chars >= _LONG_CHARS
        length = f"because its cells have {facts.mean_chars:.0f} characters on average"
        why = "because it is the only column of prose" if alone else length
        yield Guess("text", {"text": facts.name}, why, LIKELY if alone else DOUBT)


def _percent(share: float) -> str:
    return f"{int(100 * share)} %"


_DETECTORS: tuple[Callable[[Table], Iterator[Guess]], ...] = (
    _preference,
    _unpaired,
    _prompts,
    _messages,
    _alpaca,
    _word_tags,
    _entity_spans,
    _text_label,
    _pair,
    _source_target,
    _by_content,
    _text,
)
