"""`ftwizard chat`: talk to the model of a run, line by line, in any terminal or pipe."""

import contextlib
import sys
from dataclasses import dataclass

import typer

from engine.chat_client import ChatClient
from engine.runs.directory import find_run
from engine.runs.home import home_folders
from engine.text import clean, clean_line
from tui.verbs.output import print_json

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


def chat(run_name: str, prompt: str | None, settings: ChatSettings, *, as_json: bool) -> int:
    """Ask once, or converse until the end of the input."""
    run = find_run(home_folders(), run_name)
    with ChatClient(run.path, "base" if settings.base else "auto") as client:
        if prompt is not None:
            return _ask_once(client, prompt, settings, as_json=as_json)
        return _converse(client, settings, title=run.folder_name)


def _opening(settings: ChatSettings) -> list[dict[str, str]]:
    return [{"role": "system", "content": settings.system}] if settings.system else []


def _ask_once(client: ChatClient, prompt: str, settings: ChatSettings, *, as_json: bool) -> int:
    messages = [*_opening(settings), {"role": "user", "content": prompt}]
    answer = _answer(client, messages, settings, echo=not as_json)
    if as_json:
        ending = client.ending
        reason = ending.reason if ending is not None else ""
        print_json({"answer": answer, "reason": reason, "model": client.wait_ready().which})
    return 0


def _converse(client: ChatClient, settings: ChatSettings, *, title: str) -> int:
    interactive = sys.stdin.isatty()
    if interactive:
        typer.echo("Loading the model ...", err=True)
        partner = client.wait_ready()
        what = "the base model" if partner.which == "base" else f"{clean_line(title)} ({partner.which})"
        typer.echo(f"{what}. /clear forgets the conversation; ctrl+c stops an answer, ctrl+d leaves.", err=True)
    messages = _opening(settings)
    while True:
        line = _read_line(interactive=interactive)
        if line is None:
            return 0
        if line == "/clear":
            messages = _opening(settings)
            continue
        if not line:
            continue
        messages.append({"role": "user", "content": line})
        answer = _answer(client, messages, settings, echo=True)
        messages.append({"role": "assistant", "content": answer})


def _read_line(*, interactive: bool) -> str | None:
    """Return the next line without its end; None at the end of the input."""
    try:
        return input("you> " if interactive else "").strip()
    except (EOFError, KeyboardInterrupt):
        if interactive:
            typer.echo("")
        return None


def _answer(client: ChatClient, messages: list[dict[str, str]], settings: ChatSettings, *, echo: bool) -> str:
    """Return the answer, written to stdout piece by piece; ctrl+c ends it at the next token."""
    pieces: list[str] = []
    stream = client.reply(messages, max_new_tokens=settings.max_new_tokens, temperature=settings.temperature)
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(stream):  # type: ignore[type-var]
        for piece in stream:
            pieces.append(piece)
            if echo:
                typer.echo(clean(piece), nl=False)
    if echo:
        ending = client.ending
        note = _ENDINGS.get(ending.reason, "") if ending is not None else ""
        typer.echo(f" {note}" if note else "")
    return "".join(pieces)
