"""`ftwizard chat` around a model of the test's own: what is asked, shown, refused, and returned."""

import json
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import pytest

from engine.chat_client import Ending, Partner
from engine.recipe.problems import Problem, ProblemError
from engine.text import clean
from tui.verbs import chat as verb
from tui.verbs.chat import ChatSettings, clean_next


class Speaker:
    """Stands in for the process with the model; each answer is a list of pieces, in which an exception is raised."""

    def __init__(self, answers: Sequence[Sequence[object]], *, converses: bool = True, loading: object = None) -> None:
        self.answers, self.converses, self.loading = iter(answers), converses, loading
        self.asked: list[list[dict[str, str]]] = []
        self.ending: Ending | None = None

    def __enter__(self) -> "Speaker":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_ready(self) -> Partner:
        if isinstance(self.loading, BaseException):
            raise self.loading
        return Partner("merged", self.converses, 256, "cpu", "It continues each text that you type")

    def reply(self, messages: Sequence[dict[str, str]], **_: object) -> Iterator[str]:
        self.asked.append([dict(message) for message in messages])
        self.ending = None
        for piece in next(self.answers):
            if isinstance(piece, BaseException):
                raise piece
            yield str(piece)
        self.ending = Ending("stop", 1, 0.1)


@pytest.fixture
def talk(monkeypatch, tmp_path):
    """Return a function that holds a chat with typed lines; an exception among them is raised instead."""

    def hold(speaker, *lines, prompt=None, tty=True, as_json=False, system=None):
        typed = iter(lines)

        def read(_=""):
            line = next(typed, EOFError())
            if isinstance(line, BaseException):
                raise line
            return line

        monkeypatch.setattr(verb, "find_run", lambda home, name: SimpleNamespace(path=tmp_path, folder_name="made"))
        monkeypatch.setattr(verb, "ChatClient", lambda path, which: speaker)
        monkeypatch.setattr("builtins.input", read)
        monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: tty))
        return verb.chat("made", prompt, ChatSettings(False, system, 0.0, 64), as_json=as_json)

    return hold


def test_a_conversation_remembers_its_turns_and_clear_forgets_them_but_the_system_message(talk, capsys):
    speaker = Speaker([["one"], ["two"], ["three"]])
    assert talk(speaker, "a", "", "b", "/clear", "c", system="Be brief.") == 0
    opening = {"role": "system", "content": "Be brief."}
    assert [[turn["content"] for turn in asked] for asked in speaker.asked] == [
        ["Be brief.", "a"], ["Be brief.", "a", "one", "b"], ["Be brief.", "c"],
    ]  # fmt: skip
    assert speaker.asked[2][0] == opening
    assert capsys.readouterr().out == "one\ntwo\nthree\n"


def test_prompts_and_greetings_stay_out_of_the_answers(talk, capsys):
    talk(Speaker([["yes"]]), "a")
    captured = capsys.readouterr()
    assert captured.out == "yes\n"
    assert captured.err.count("you> ") == 2


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[2J\x1b]0;title\x07 end",
        "a" + 40 * "\u0301" + "b" + 9 * "\u0489",
        "\u202eright\u202c \x9b31m",
        "\ud83d\ude42 \t\r\n x",
    ],
)
def test_pieces_cut_anywhere_show_what_the_whole_text_shows(talk, capsys, text):
    for width in (1, 2, 3, 7):
        pieces = [text[start : start + width] for start in range(0, len(text), width)]
        assert "".join(clean_next("".join(pieces[:i]), piece) for i, piece in enumerate(pieces)) == clean(text)
    talk(Speaker([list(text)]), "a")
    assert capsys.readouterr().out == clean(text) + "\n"


def test_ctrl_c_ends_an_answer_and_the_conversation_goes_on(talk, capsys):
    speaker = Speaker([["on", KeyboardInterrupt()], ["two"]])
    assert talk(speaker, "a", "b") == 0
    assert [turn["content"] for turn in speaker.asked[1]] == ["a", "on", "b"]
    assert capsys.readouterr().out == "on (cancelled)\ntwo\n"


def test_ctrl_c_ends_a_single_question_and_a_pipe_with_130(talk, capsys):
    assert talk(Speaker([["on", KeyboardInterrupt()]]), prompt="a") == 130
    assert talk(Speaker([["on", KeyboardInterrupt()]]), prompt="a", as_json=True) == 130
    assert json.loads(capsys.readouterr().out.partition("\n")[2])["reason"] == "cancelled"
    speaker = Speaker([["on", KeyboardInterrupt()], ["two"]])
    assert talk(speaker, "a", "b", tty=False) == 130
    assert len(speaker.asked) == 1


@pytest.mark.parametrize("prompt", ["a", None])
def test_ctrl_c_while_the_model_is_loaded_leaves(talk, prompt):
    with pytest.raises(KeyboardInterrupt):
        talk(Speaker([], loading=KeyboardInterrupt()), "a", prompt=prompt, tty=False)


def test_a_refused_question_is_told_and_forgotten_by_a_person_and_ends_a_pipe(talk, capsys):
    refusal = ProblemError(Problem("chat.too_long", "It has 300 tokens.", "Start a new conversation."))
    speaker = Speaker([["one"], [refusal], ["three"]])
    assert talk(speaker, "a", "b", "c") == 0
    assert [turn["content"] for turn in speaker.asked[2]] == ["a", "one", "c"]
    assert "300 tokens" in capsys.readouterr().err
    with pytest.raises(ProblemError, match="300 tokens"):
        talk(Speaker([[refusal]]), "a", tty=False)
    ended = ProblemError(Problem("chat.ended", "The chat process ended.", "Look at its log."))
    with pytest.raises(ProblemError, match="ended"):
        talk(Speaker([[ended]]), "a", "b")


def test_options_without_an_effect_are_refused(talk):
    with pytest.raises(ProblemError, match="--json prints the answer to one question"):
        talk(Speaker([]), "a", as_json=True)
    with pytest.raises(ProblemError, match="knows no conversations"):
        talk(Speaker([["x"]], converses=False), prompt="a", system="Be brief.")


def test_one_answer_as_json_holds_the_text_as_the_model_wrote_it(talk, capsys):
    assert talk(Speaker([["\x1b[2J", "é"]]), prompt="a", as_json=True) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert json.loads(printed) == {"answer": "\x1b[2Jé", "reason": "stop", "model": "merged"}
