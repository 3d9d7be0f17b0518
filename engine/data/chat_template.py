"""A tokenizer's chat template as a function of messages, with what it does that others do not.

Templates are programs from strangers. They run in the sandbox of transformers (immutable, no attribute tricks), and
here also under a time limit and an output limit, because a sandbox does not stop a loop.
"""

import copy
import json
import re
import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from types import FrameType
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.runtime import new_context
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import _compile_jinja_template, render_jinja_template

from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

Message = dict[str, Any]
TIME_LIMIT_S = 2.0
_LOOK_EVERY_S = 0.2
MAX_GROWTH_CHARS = 200_000
"""Characters that a template may add to the messages; the longest known default system prompts take a tenth."""
_MARKERS = re.compile(r"\{%-?\s*generation\s*-?%\}")
PROBE: tuple[Message, ...] = (
    {"role": "user", "content": "Which colour?"},
    {"role": "assistant", "content": "Quite blue."},
    {"role": "user", "content": "And now?"},
    {"role": "assistant", "content": "Rather red."},
)
TOOL_PROBE: tuple[Mapping[str, Any], ...] = (
    {
        "type": "function",
        "function": {
            "name": "probe_definition",
            "description": "Looks things up.",
            "parameters": {
                "type": "object",
                "properties": {"word": {"type": "string", "description": "What to look up."}},
                "required": ["word"],
            },
        },
    },
)
CALL_PROBE: tuple[Message, ...] = (
    {"role": "user", "content": "Which colour?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {
                "type": "function",
                "id": "probecall",
                "function": {"name": "probe_definition", "arguments": {"word": "probe_argument"}},
            }
        ],
    },
    {"role": "tool", "name": "probe_definition", "tool_call_id": "probecall", "content": "probe_result"},
    {"role": "assistant", "content": "Quite blue."},
)
# Whatever a program of strangers can raise on rows of strangers: division by zero, endless recursion, and so on.
_FAILURES = (
    TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RecursionError,
    MemoryError,
)
_CHANGE = "Set model.chat_template to chatml, or to a Jinja file of your own."


class TemplateRefusedError(ValueError):
    """The template refuses or fails on a conversation; the text says why."""


def template_problem(code: str, message: str, fix: str = _CHANGE) -> ProblemError:
    """Return a blocking finding about the chat template."""
    return ProblemError(
        Problem(f"template.{code}", clean_line(message, max_chars=600), fix, path="model.chat_template")
    )


class ChatTemplate:
    """Renders conversations to text.

    Attributes:
        has_markers: The template marks the answers itself with `{% generation %}`.
        folds_system: It refuses a system message, so that its text goes in front of the first question.
        rewrites_answers: An answer reads differently once another question follows it.
        rewrites_thoughts: Only answers with `<think>` blocks do.
        ends: Texts that were seen to follow the last answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Try the template on small conversations.

        Raises:
            ProblemError: There is no template, or it does not work at all.
        """
        self._special_tokens = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
        self._tools: Sequence[Mapping[str, Any]] | None = None
        self.folds_system = False
        source = _source(tokenizer)
        self.has_markers = _MARKERS.search(source) is not None
        self._source = source
        self.ends: set[str] = set()
        try:
            self.render(PROBE)
        except TemplateRefusedError as error:
            raise template_problem("broken", f"The chat template does not work: {error}.") from error
        self.folds_system = self._refuses_system()
        self.rewrites_answers = self._rewrites("")
        self.rewrites_thoughts = self._rewrites("<think>\nHm.\n</think>\n\n")

    def with_tools(self, tools: Sequence[Mapping[str, Any]] | None, messages: Sequence[Message]) -> "ChatTemplate":
        """Return the template with definitions of tools, for a conversation that may call them.

        Raises:
            TemplateRefusedError: The conversation has definitions, calls or results that the template does not write.
        """
        called = any(message["role"] == "tool" or message.get("tool_calls") for message in messages)
        if tools and not self._writes_definitions:
            raise TemplateRefusedError("it has no place for the definitions of tools")
        if called and not self.writes_calls:
            raise TemplateRefusedError("it has no place for tool calls and their results")
        if not tools:
            return self
        bound = copy.copy(self)
        bound._tools = tools
        return bound

    @cached_property
    def _writes_definitions(self) -> bool:
        probe = copy.copy(self)
        probe._tools = TOOL_PROBE
        try:
            return "probe_definition" in probe.render(PROBE[:2])
        except TemplateRefusedError:
            return False

    @cached_property
    def writes_calls(self) -> bool:
        """Whether tool calls and their results appear in the rendered text; many templates leave them out silently."""
        try:
            text = self.render(CALL_PROBE)
        except TemplateRefusedError:
            return False
        return "probe_argument" in text and "probe_result" in text

    def render(self, messages: Sequence[Message], *, prompt: bool = False) -> str:
        """Return the text of a conversation.

        Args:
            messages: Turns with `role` and `content`.
            prompt: End with the header that asks for an answer.

        Raises:
            TemplateRefusedError: The template raises, runs too long or writes too much.
        """
        return self._run(messages, prompt=prompt, spans=False)[0]

    def render_with_spans(self, messages: Sequence[Message]) -> tuple[str, list[tuple[int, int]]]:
        """Return the text and the character spans that the template marks as generated."""
        return self._run(messages, prompt=False, spans=True)

    def _run(self, messages: Sequence[Message], *, prompt: bool, spans: bool) -> tuple[str, list[tuple[int, int]]]:
        turns = fold_system(messages) if self.folds_system else list(messages)
        try:
            with time_limit(TIME_LIMIT_S):
                text, marked = self._with_spans(turns, prompt) if spans else (self._plain(turns, prompt), [])
        except TimeoutError as error:
            raise template_problem("endless", f"The chat template runs longer than {TIME_LIMIT_S:g} s.") from error
        except _FAILURES as error:
            raise TemplateRefusedError(clean_line(str(error) or type(error).__name__, max_chars=200)) from error
        if len(text) > MAX_GROWTH_CHARS and len(text) > _num_chars(turns, self._tools) * 8 + MAX_GROWTH_CHARS:
            raise template_problem("grows", f"The chat template makes {len(text)} characters out of one conversation.")
        return text, marked

    @cached_property
    def _compiled(self) -> tuple[Template, dict[str, Any]]:
        """The compiled template, and everything that it can name and that no conversation changes."""
        compiled: Template = _compile_jinja_template(self._source)
        return compiled, {**compiled.globals, "documents": None, **self._special_tokens}

    def _plain(self, turns: Sequence[Message], prompt: bool) -> str:
        # What the library does for one conversation, without the copy of every message that it makes first: rows are
        # plain JSON, the sandbox lets a template change nothing, and the copies took half of the time. Most of the
        # rest went into copying the names that every template knows, so they are laid out once.
        compiled, known = self._compiled
        names = {**known, "messages": turns, "tools": self._tools, "add_generation_prompt": prompt}
        context = new_context(compiled.environment, compiled.name, compiled.blocks, names, shared=True)
        return "".join(compiled.root_render_func(context))

    def _with_spans(self, turns: Sequence[Message], prompt: bool) -> tuple[str, list[tuple[int, int]]]:
        texts, marked = render_jinja_template(
            conversations=[turns],
            tools=self._tools,
            chat_template=self._source,
            return_assistant_tokens_mask=True,
            add_generation_prompt=prompt,
            **self._special_tokens,
        )
        return texts[0], list(marked[0])

    def _refuses_system(self) -> bool:
        system = {"role": "system", "content": "Be terse."}
        try:
            return "Be terse." not in self.render([system, *PROBE])
        except TemplateRefusedError:
            return True

    def _rewrites(self, thought: str) -> bool:
        messages = [
            {**turn, "content": thought + turn["content"]} if turn["role"] == "assistant" else turn for turn in PROBE
        ]
        answer = messages[1]["content"].rsplit("\n", 1)[-1]
        alone, whole = self.render(messages[:2]), self.render(messages)
        at = alone.find(answer)
        return at < 0 or not whole.startswith(alone[: at + len(answer)])


def _num_chars(turns: Sequence[Message], tools: Sequence[Mapping[str, Any]] | None) -> int:
    extra: list[Any] = [turn["tool_calls"] for turn in turns if turn.get("tool_calls")]
    extra += tools or []
    return sum(len(turn["content"]) for turn in turns) + (len(json.dumps(extra)) if extra else 0)


def _source(tokenizer: PreTrainedTokenizerBase) -> str:
    template: Any = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not isinstance(template, str) or not template.strip():
        raise template_problem("missing", "The tokenizer has no chat template.")
    return template


def fold_system(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with the system text in front of the first question, for templates without that role."""
    if not messages or messages[0]["role"] != "system":
        return list(messages)
    system, *rest = messages
    if not rest:
        return [{"role": "user", "content": system["content"]}]
    first = {**rest[0], "content": f"{system['content']}\n\n{rest[0]['content']}"}
    return [first, *rest[1:]]


def time_limit(seconds: float) -> AbstractContextManager[None]:
    """Raise `TimeoutError` when the block takes longer; only the main thread can be interrupted, others run free."""
    if threading.current_thread() is not threading.main_thread():
        return nullcontext()
    return _shared[-1].limited(seconds) if _shared else _limited_alone(seconds)


@contextmanager
def _limited_alone(seconds: float) -> Iterator[None]:
    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Deadline:
    """When what runs under a shared alarm must have ended; None while nothing does."""

    def __init__(self) -> None:
        self._at_s: float | None = None
        self._seconds = 0.0

    def limited(self, seconds: float) -> "_Deadline":
        """Return what sets the deadline when it is entered."""
        self._seconds = seconds
        return self

    def __enter__(self) -> None:
        self._at_s = time.monotonic() + self._seconds

    def __exit__(self, *_error: object) -> None:
        self._at_s = None

    def look(self, _signal: int, _frame: FrameType | None) -> None:
        """Interrupt what runs too long."""
        if self._at_s is not None and time.monotonic() > self._at_s:
            self._at_s = None
            raise TimeoutError


_shared: list[_Deadline] = []
"""The shared alarm that is set, in the main thread."""


@contextmanager
def shared_alarm() -> Iterator[None]:
    """Let all time limits in a block look at one alarm: one for each rendering took a fifth of the time of many."""
    if threading.current_thread() is not threading.main_thread() or _shared:
        yield
        return
    deadline = _Deadline()
    before = signal.signal(signal.SIGALRM, deadline.look)
    _shared.append(deadline)
    signal.setitimer(signal.ITIMER_REAL, _LOOK_EVERY_S, _LOOK_EVERY_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _shared.pop()
        signal.signal(signal.SIGALRM, before)
