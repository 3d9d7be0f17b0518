"""`ftwizard chat`: talk to the model of a run, line by line, in any terminal or pipe."""

import contextlib
import io
import sys
from dataclasses import dataclass

import typer

from engine.chat_client import ChatClient
from engine.recipe.problems import Problem, ProblemError
from engine.runs.directory import find_run
from engine.runs.home import home_folders
from engine.text import MAX_COMBINING, clean, clean_line
from tui.verbs.output import EXIT_LEFT, print_json, print_problems

_CONVERSATION_PROBLEMS = frozenset({"chat.too_long", "chat.refused", "chat.empty", "chat.out_of_memory"})
"""What one question can be refused for while the model stays ready for another."""
_ENDINGS = {
    "length": "(cut: longer than --max-new-tokens)",
    "context": "(cut: the model can read no further; /clear starts anew)",
    "cancelled": "(cancelled)",
}


@dataclass(frozen=True, slots=True)
class ChatSettings:
    """How the model answers; see the options of the verb."""

    base: bool
    system: str | None
    temperature: float
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said; `cut_off` when ctrl+c ended it."""

    text: str
    cut_off: bool


def chat(run_name: str, prompt: str | None, settings: ChatSettings, *, as_json: bool) -> int:
    """Ask once, or converse until the end of the input."""
    if as_json and prompt is None:
        message = "--json prints the answer to one question, and there is none."
        raise ProblemError(Problem("chat.no_question", message, "Add --prompt TEXT, or leave out --json."))
    run = find_run(home_folders(), run_name)
    with ChatClient(run.path, "base" if settings.base else "auto") as client:
        if prompt is not None:
            return _ask_once(client, prompt, settings, as_json=as_json)
        return _converse(client, settings, title=run.folder_name)


def _opening(client: ChatClient, settings: ChatSettings) -> list[dict[str, str]]:
    if not settings.system:
        return []
    if not client.wait_ready().converses:
        message = "This model continues text and knows no conversations, so it reads no system message."
        raise ProblemError(Problem("chat.no_system", message, "Leave out --system."))
    return [{"role": "system", "content": settings.system}]


def _ask_once(client: ChatClient, prompt: str, settings: ChatSettings, *, as_json: bool) -> int:
    messages = [*_opening(client, settings), {"role": "user", "content": prompt}]
    answer = _answer(client, messages, settings, echo=not as_json)
    if as_json:
        ending = client.ending
        reason = ending.reason if ending is not None else "cancelled"
        print_json({"answer": answer.text, "reason": reason, "model": client.wait_ready().which})
    return EXIT_LEFT if answer.cut_off else 0


def _converse(client: ChatClient, settings: ChatSettings, *, title: str) -> int:
    interactive = sys.stdin.isatty()
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    if interactive:
        _greet(client, settings, title)
    opening = _opening(client, settings)
    messages = list(opening)
    while (line := _read_line(interactive=interactive)) is not None:
        if line == "/clear":
            messages = list(opening)
        if line in ("", "/clear"):
            continue
        messages.append({"role": "user", "content": line})
        try:
            answer = _answer(client, messages, settings, echo=True)
        except ProblemError as error:
            if not interactive or any(problem.code not in _CONVERSATION_PROBLEMS for problem in error.problems):
                raise
            print_problems(error.problems)
            typer.echo("/clear starts a new conversation.", err=True)
            messages.pop()
            continue
        if answer.cut_off and not interactive:
            return EXIT_LEFT
        messages.append({"role": "assistant", "content": answer.text})
    return 0


def _greet(client: ChatClient, settings: ChatSettings, title: str) -> None:
    typer.echo("Loading the model ...", err=True)
    partner = client.wait_ready()
    what = "the base model" if settings.base else f"{clean_line(title)} ({partner.which})"
    how = "/clear forgets the conversation" if partner.converses else clean_line(partner.does)
    typer.echo(f"{what}. {how}; ctrl+c stops an answer, ctrl+d leaves.", err=True)


def _read_line(*, interactive: bool) -> str | None:
    """Return the next line without its end; None at the end of the input."""
    if interactive:
        # Not through input(), which would write it into a file that stdout leads to.
        typer.echo("you> ", nl=False, err=True)
    try:
        return input().strip()
    except EOFError:
        pass
    except KeyboardInterrupt:
        if not interactive:
            raise
    if interactive:
        typer.echo("", err=True)
    return None


def _answer(client: ChatClient, messages: list[dict[str, str]], settings: ChatSettings, *, echo: bool) -> Answer:
    """Return the answer, written to stdout piece by piece; ctrl+c ends it at the next token.

    Raises:
        KeyboardInterrupt: ctrl+c came while the model was still being loaded.
        ProblemError: The model's side refused the question, or ended.
    """
    client.wait_ready()
    text, cut_off = "", False
    stream = client.reply(messages, max_new_tokens=settings.max_new_tokens, temperature=settings.temperature)
    try:
        with contextlib.closing(stream):
            for piece in stream:
                if echo:
                    typer.echo(clean_next(text, piece), nl=False)
                text += piece
    except KeyboardInterrupt:
        cut_off = True
    if echo:
        ending = client.ending
        reason = "cancelled" if cut_off else ending.reason if ending is not None else ""
        note = _ENDINGS.get(reason, "")
        typer.echo(f" {note}" if note else "")
    return Answer(text, cut_off)


def clean_next(shown: str, piece: str) -> str:
    """Return a piece that follows `shown` as `clean` would show it there: marks pile up across pieces too."""
    before = shown[-MAX_COMBINING - 1 :]
    return clean(before + piece)[len(clean(before)) :]
