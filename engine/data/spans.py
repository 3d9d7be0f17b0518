"""Which characters of a rendered conversation the model must have written itself.

The span of an answer starts where the generation prompt ends, so that training and serving agree, and ends with the
answer's own text; the end-of-turn token after it is added token by token in `rendering`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.data.chat_template import ChatTemplate, Message, TemplateRefusedError
from engine.data.rows import Row

Span = tuple[int, int]
# Private-use characters: no template trims or splits at them, and no sane text holds them.
_OPEN, _CLOSE = "\ue0f8", "\ue0f9"
MOST_ENDS = 64
"""Texts after a last answer that are remembered; a template that writes a number there has more."""
_NOT_A_PREFIX = (
    "the prompt that asks for an answer is not how the finished conversation begins "
    "(it opens a thought, say, that the answers do not have)"
)
_SENTINEL = re.compile(f"{_OPEN}(\\d+){_CLOSE}")


@dataclass(frozen=True, slots=True)
class Marked:
    """A rendered conversation and the spans of its answers, in characters, in order.

    Attributes:
        includes_end: The spans reach over the end-of-turn token already.
        stays_open: A prompt without an answer, which the model itself goes on from: nothing closes it.
    """

    text: str
    spans: list[Span]
    includes_end: bool = False
    stays_open: bool = False


class AnswerNotFoundError(TemplateRefusedError):
    """The answers cannot be told from the rest of the rendered text."""


def mark_conversation(
    template: ChatTemplate, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None = None
) -> list[Marked]:
    """Return one text with all answers marked, or several that mark each answer as it will be served.

    Several are needed where the template rewrites earlier answers (Qwen3 drops their thoughts): an answer is then
    trained in the conversation that ends with it, because only there it reads as the model writes it.

    Definitions and results of tools are context; the calls of the assistant are answers.

    Args:
        template: Template of the model.
        messages: A conversation in canonical order that ends with an answer.
        tools: Definitions of the tools that it may call.

    Raises:
        TemplateRefusedError: The template refuses it, or the answers cannot be told from the rest.
    """
    template = template.with_tools(tools, messages)
    if any(message.get("tool_calls") for message in messages):
        return _mark_turns(template, messages)
    try:
        if not _rewritten(template, messages):
            whole = _mark_all(template, messages)
            if whole is not None:
                return [whole]
        return [
            _mark_last(template, messages[: index + 1])
            for index, message in enumerate(messages)
            if message["role"] == "assistant"
        ]
    except AnswerNotFoundError:
        if template.has_markers:
            return [_mark_by_template(template, messages)]
        raise


def mark_sides(template: ChatTemplate, row: Row, system_prompt: str | None = None) -> list[Marked]:
    """Return one text for each answer of a row that prefers or judges answers, or the prompt of one that has none.

    Only the answers are marked, and of conversations that go on only what follows the prompt. A prompt without an
    answer is marked whole, as nothing of it may be lost.

    Args:
        template: Template of the model.
        row: With `prompt`, and `chosen` and `rejected`, or `completion`, or neither.
        system_prompt: Put in front of a prompt without a system message.

    Raises:
        TemplateRefusedError: The template refuses it, or the answers cannot be told from the rest.
    """
    prompt: list[Message] = list(row["prompt"])
    if system_prompt and (not prompt or prompt[0]["role"] != "system"):
        prompt.insert(0, {"role": "system", "content": system_prompt})
    sides = [row[key] for key in ("chosen", "rejected", "completion") if key in row]
    if not sides:
        text = template.with_tools(row.get("tools"), prompt).render(prompt, prompt=True)
        return [Marked(text, [(0, len(text))], includes_end=True, stays_open=True)]
    return [_mark_side(template, prompt, side, row.get("tools")) for side in sides]


def _mark_side(
    template: ChatTemplate, prompt: list[Message], side: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None
) -> Marked:
    whole = mark_conversation(template, [*prompt, *side], tools)[-1]
    num_answers = sum(message["role"] == "assistant" for message in side)
    # Where the template rewrites earlier answers, the last text marks the last answer alone.
    return Marked(whole.text, whole.spans[-num_answers:], whole.includes_end)


def _mark_turns(template: ChatTemplate, messages: Sequence[Message]) -> list[Marked]:
    """Mark whole turns, for answers that are calls: what the prompt for a turn does not have yet is the turn.

    One text where each turn is written there as it is at the end of a conversation, else one text for each answer.
    """
    whole = template.render(messages)
    marked: list[Marked] = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        text = whole if index + 1 == len(messages) else template.render(messages[: index + 1])
        prompt = template.render(messages[:index], prompt=True)
        # White space after the end-of-turn token is not the model's to write.
        end = len(text.rstrip())
        if not text.startswith(prompt) or end <= len(prompt):
            raise TemplateRefusedError(_NOT_A_PREFIX)
        marked.append(Marked(text, [(len(prompt), end)], includes_end=True))
    if all(whole.startswith(each.text.rstrip()) for each in marked):
        return [Marked(whole, [span for each in marked for span in each.spans], includes_end=True)]
    return marked


def _mark_by_template(template: ChatTemplate, messages: Sequence[Message]) -> Marked:
    """Take the spans that the template itself marks with `{% generation %}`, if they hold the answers."""
    text, marked = template.render_with_spans(messages)
    prompt = template.render(messages[:-1], prompt=True)
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    # White space after the end-of-turn token is not the model's to write.
    spans = [(start, start + len(text[start:end].rstrip())) for start, end in marked]
    held = [answer.strip() in text[start:end] for (start, end), answer in zip(spans, answers, strict=False)]
    if len(spans) != len(answers) or not all(held):
        raise TemplateRefusedError("the spans that it marks as generated do not hold the answers")
    if not text.startswith(prompt) or len(prompt) > spans[-1][1]:
        raise TemplateRefusedError(_NOT_A_PREFIX)
    return Marked(text, [*spans[:-1], (len(prompt), spans[-1][1])], includes_end=True)


def _rewritten(template: ChatTemplate, messages: Sequence[Message]) -> bool:
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    if len(answers) < 2:
        return True
    return template.rewrites_answers or (template.rewrites_thoughts and any("think>" in answer for answer in answers))


def _sentinels(messages: Sequence[Message]) -> list[Message]:
    return [
        {**message, "content": f"{_OPEN}{index}{_CLOSE}"} if message["role"] == "assistant" else message
        for index, message in enumerate(messages)
    ]


def _mark_last(template: ChatTemplate, messages: Sequence[Message]) -> Marked:
    """Mark the last answer: from the end of the generation prompt to where the text after it starts."""
    text, prompt = template.render(messages), template.render(messages[:-1], prompt=True)
    answer = messages[-1]["content"]
    end = len(prompt) + len(answer)
    # Between the prompt and an end that is known, the answer stands as it is: nothing is left to find out.
    if answer.strip() == answer and text == f"{prompt}{answer}{text[end:]}" and text[end:] in template.ends:
        return Marked(text, [(len(prompt), end)])
    after = _SENTINEL.split(template.render([*messages[:-1], _sentinels(messages)[-1]]))[-1]
    if len(template.ends) < MOST_ENDS:
        template.ends.add(after)
    return Marked(text, [_last_span(text, prompt, after)])


def _last_span(text: str, prompt: str, after: str) -> Span:
    if not text.startswith(prompt):
        raise TemplateRefusedError(_NOT_A_PREFIX)
    end = len(text) - len(after)
    if not text.endswith(after) or end < len(prompt):
        raise AnswerNotFoundError("the end of the last answer cannot be found in the rendered text")
    return len(prompt), end


def _mark_all(template: ChatTemplate, messages: Sequence[Message]) -> Marked | None:
    """Mark every answer in one text; None where the text around an answer depends on the answer."""
    pieces = _SENTINEL.split(template.render(_sentinels(messages)))
    around, order = pieces[::2], pieces[1::2]
    if order != [str(index) for index, message in enumerate(messages) if message["role"] == "assistant"]:
        return None
    text, prompt = template.render(messages), template.render(messages[:-1], prompt=True)
    answers = [message["content"] for message in messages if message["role"] == "assistant"]
    spans = _align(text, around, answers)
    if spans is None:
        return None
    last = _last_span(text, prompt, around[-1])
    lead = text[last[0] : spans[-1][0]]
    without = template.render(messages[:-1])
    header = prompt[len(without) :] if prompt.startswith(without) else ""
    shifts = [_start(before, header, lead) for before in around[:-2]]
    moved = [(start - shift, end) for (start, end), shift in zip(spans, shifts, strict=False)]
    return Marked(text, [*moved, last])


def _start(text_before: str, header: str, lead: str) -> int:
    """Return how many characters before an answer's content the model wrote too (a space, an empty thought)."""
    return len(lead) if lead and text_before.endswith(header + lead) else 0


def _align(text: str, around: Sequence[str], answers: Sequence[str]) -> list[Span] | None:
    """Return where each answer lies in a text that is `around[0] answer around[1] answer ...`."""
    if not text.startswith(around[0]):
        return None
    spans: list[Span] = []
    at = len(around[0])
    for number, answer in enumerate(answers):
        after, last = around[number + 1], number == len(answers) - 1
        end = _end(text, at, answer, after, last=last)
        if end is None:
            return None
        spans.append((at, end))
        at = end + len(after)
    return spans


def _end(text: str, at: int, answer: str, after: str, *, last: bool) -> int | None:
    for form in (answer, answer.strip(), answer.rstrip(), answer.lstrip()):
        end = at + len(form)
        if text.startswith(form, at) and text.startswith(after, end) and (not last or end + len(after) == len(text)):
            return end
    return None
