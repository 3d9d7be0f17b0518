"""P1: what the loss covers, read back from the trained tokens and held against the answers of the rows."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.data.preflight_case import PreflightCase, Verdict, counted, listed, percent
from engine.data.rendered import Rendered
from engine.data.rows import Row, spoken_text
from engine.data.spelling import Spelling, lost_letters, num_letters
from engine.data.token_facts import trained_runs

LEAST_CONTEXT_CHARS = 4
"""Characters of a question that must turn up among the trained ones; fewer may stand there by chance."""
FEW_SHARE = 0.01
MOSTLY_LOST = 0.5
"""Share of characters unknown to the tokenizer from which on little of what the rows say is left to learn."""
_NAMED_LETTERS = 6
_TEXT_CHARS = 4000
"""Characters of a plain text that are read back."""


@dataclass(slots=True)
class _Masks:
    """What was found in the drawn rows.

    Attributes:
        asked: Rows whose questions are trained.
        empty: Rows with an answer that is not trained.
        rewritten: Rows with an answer that is trained in other words.
        lossy: Rows with characters that the tokenizer does not know.
        num_answers: Answers read back.
        lost: Characters that the tokenizer does not know, and how often they stand there.
        num_chars: Characters of the texts that were read back.
    """

    asked: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)
    lossy: list[str] = field(default_factory=list)
    num_answers: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    num_chars: int = 0

    def count_lost(self, row_id: str, texts: Sequence[str], spelling: Spelling) -> None:
        """Count what the tokenizer does not give back of the texts of a row."""
        self.num_chars += num_letters(texts)
        for text in texts:
            if lost := lost_letters(text, spelling.of_text(text)):
                self.lost += lost
                self.lossy.append(row_id)

    @property
    def lost_share(self) -> float:
        """Share of the characters that the tokenizer does not know."""
        return self.lost.total() / max(1, self.num_chars)


def check_mask(case: PreflightCase) -> Verdict:
    """P1: the trained tokens spell the answers with their ends, and no question."""
    tokens, trained = int(case.facts.lengths.sum()), int(case.facts.trained.sum())
    share = trained / tokens if tokens else 0.0
    measured = {"trained_share": round(share, 6), "tokens": tokens, "trained_tokens": trained}
    if not trained:
        return Verdict(
            "blocked",
            "No token of the training rows is trained, so the model would learn nothing.",
            "Look at the rows in the X-ray; the answers are empty or the chat template leaves them out.",
            [row["id"] for row in case.rendered_rows[:20]],
            measured,
        )
    if not case.converses:
        return _text_verdict(case, share, measured)
    everything = case.facts.where(case.facts.all_trained)
    found = _read_back(case)
    measured |= {
        "rows_read_back": len(case.drawn),
        "answers_read_back": found.num_answers,
        "rows_that_train_questions": len(found.asked),
        "rows_with_rewritten_answers": len(found.rewritten),
        "rows_all_trained": len(everything),
        "lost_chars_share": round(found.lost_share, 6),
    }
    return _chat_verdict(case, found, everything, share, measured)


def _text_verdict(case: PreflightCase, share: float, measured: dict[str, float]) -> Verdict:
    if case.renderer.task.head == "masked-lm":
        return _hidden_verdict(case, share, measured)
    partly = case.facts.where(~case.facts.all_trained)
    if partly:
        return Verdict(
            "blocked",
            f"{counted(len(partly), 'text is', 'texts are')} trained only in part ({listed(partly)}).",
            "Report this: plain text is trained whole.",
            partly,
            measured,
        )
    return _lossy_text(case, measured) or Verdict(
        "passed", f"Plain text: {percent(share)} of all tokens are trained.", measured=measured
    )


def _hidden_verdict(case: PreflightCase, share: float, measured: dict[str, float]) -> Verdict:
    """Return the verdict on text of which some words are hidden at a time: all but special tokens may be."""
    special = set(case.renderer.tokenizer.all_special_ids)
    wrong = [row["id"] for row, sequences in case.drawn if any(_hides_special(one, special) for one in sequences)]
    if wrong:
        return Verdict(
            "blocked",
            f"Special tokens of {counted(len(wrong), 'text', 'texts')} would be hidden ({listed(wrong)}).",
            "Report this: only words are hidden.",
            wrong,
            measured,
        )
    hidden = case.recipe.domain_adaptation.masked_share
    return _lossy_text(case, measured) or Verdict(
        "passed",
        f"{percent(share)} of all tokens may be hidden, {percent(hidden)} of them at a time; special tokens never are.",
        measured=measured,
    )


def _hides_special(sequence: Rendered, special: set[int]) -> bool:
    return any(not special.isdisjoint(run) for run in trained_runs(sequence))


def _lossy_text(case: PreflightCase, measured: dict[str, float]) -> Verdict | None:
    found, spelling = _Masks(), Spelling(case.renderer.tokenizer)
    for row, _ in case.drawn:
        found.count_lost(row["id"], [row["text"][:_TEXT_CHARS]], spelling)
    measured["lost_chars_share"] = round(found.lost_share, 6)
    return _lossy_verdict(case, found, measured)


def _chat_verdict(
    case: PreflightCase, found: _Masks, everything: Sequence[str], share: float, measured: Mapping[str, float]
) -> Verdict:
    if case.facts.all_trained.all():
        return _all_trained(case, everything, measured)
    if found.asked or found.empty:
        return _wrong_mask(case, found, measured)
    if lossy := _lossy_verdict(case, found, measured):
        return lossy
    drawn = len(case.drawn)
    what = "the texts to write with their ends" if case.renderer.frame.pairs else "the answers and the ends of turns"
    said = f"{percent(share)} of all tokens are trained: {what}"
    if len(found.rewritten) > FEW_SHARE * drawn:
        return Verdict(
            "warning",
            f"{said}. The chat template writes answers otherwise than the rows have them, in "
            f"{counted(len(found.rewritten), 'row', 'rows')} of {drawn:,} read back ({listed(found.rewritten)}).",
            "Look at them in the X-ray; set model.chat_template to chatml if the rows are right.",
            found.rewritten,
            measured,
        )
    read = f"{counted(found.num_answers, 'answer', 'answers')} of {counted(drawn, 'row', 'rows')} read back"
    return Verdict("passed", f"{said} ({read}).", measured=measured)


def _wrong_mask(case: PreflightCase, found: _Masks, measured: Mapping[str, float]) -> Verdict:
    drawn, rows = len(case.drawn), [*found.asked, *found.empty]
    some = [f"the loss covers questions in {counted(len(found.asked), 'row', 'rows')}"] if found.asked else []
    some += [f"it leaves out an answer in {counted(len(found.empty), 'row', 'rows')}"] if found.empty else []
    return Verdict(
        "blocked" if len(rows) > FEW_SHARE * drawn else "warning",
        f"Of {counted(drawn, 'row', 'rows')} read back, {' and '.join(some)} ({listed(rows)}).",
        "Set model.chat_template to chatml, or correct the generation markers of the template.",
        rows,
        measured,
    )


def _lossy_verdict(case: PreflightCase, found: _Masks, measured: Mapping[str, float]) -> Verdict | None:
    """Return what is to be said of characters that the tokenizer does not know; None where that is next to nothing."""
    rows = list(dict.fromkeys(found.lossy))
    if len(rows) <= FEW_SHARE * len(case.drawn):
        return None
    signs = " ".join(letter for letter, _ in found.lost.most_common(_NAMED_LETTERS))
    more = len(found.lost) - _NAMED_LETTERS
    return Verdict(
        "blocked" if found.lost_share > MOSTLY_LOST else "warning",
        f"The model's tokenizer does not know {percent(found.lost_share)} of all characters ("
        f"{signs}{f' and {more:,} more' if more > 0 else ''}), so that the model can neither read nor write them: "
        f"{counted(len(rows), 'row has', 'rows have')} some, of {len(case.drawn):,} read back ({listed(rows)}).",
        "Choose a base model whose tokenizer knows them.",
        rows,
        measured,
    )


def _all_trained(case: PreflightCase, everything: Sequence[str], measured: Mapping[str, float]) -> Verdict:
    message = "Every token of these conversations is trained, so no question is left that an answer could follow"
    if case.recipe.data.allow_all_trained:
        return Verdict("warning", f"{message}. The recipe allows it.", "", everything, measured)
    return Verdict(
        "blocked",
        f"{message}: the rows bring none, or the chat template leaves them out.",
        "Look at the rows in the X-ray. If this is what you want, set data.allow_all_trained: true.",
        everything,
        measured,
    )


def _read_back(case: PreflightCase) -> _Masks:
    """Hold the trained tokens of the drawn rows against what the rows say."""
    found = _Masks()
    spelling = Spelling(case.renderer.tokenizer)
    for row, sequences in case.drawn:
        runs = [spelling.of_ids(run) for sequence in sequences for run in trained_runs(sequence)]
        _compare(row, runs, spelling, found)
    return found


def _compare(row: Row, runs: Sequence[str], spelling: Spelling, found: _Masks) -> None:
    """Hold the trained runs of a row against its answers."""
    messages = [(message["role"] == "assistant", message) for message in row["messages"]]
    answers = [spelling.of_text(message["content"]) for answers, message in messages if answers]
    asked = [spelling.of_text(message["content"]) for answers, message in messages if not answers]
    found.num_answers += len(answers)
    found.count_lost(row["id"], [message["content"] for _, message in messages], spelling)
    # An answer may quote its question, and a call of a tool hold what was asked for.
    said = [spelling.of_text(spoken_text(message)) for answers, message in messages if answers]
    if any(_more_often(text, runs, said) for text in asked if len(text) >= LEAST_CONTEXT_CHARS):
        found.asked.append(row["id"])
    elif len(runs) < len(answers) and _unlearnt(answers, runs):
        found.empty.append(row["id"])
    elif _unlearnt(answers, runs):
        found.rewritten.append(row["id"])


def _more_often(text: str, runs: Sequence[str], answers: Sequence[str]) -> bool:
    trained = sum(run.count(text) for run in runs)
    return trained > 0 and trained > sum(answer.count(text) for answer in answers)


def _unlearnt(answers: Sequence[str], runs: Sequence[str]) -> bool:
    """Return whether an answer stands nowhere among the trained runs; two answers may share a run."""
    left = "\n".join(runs)
    for answer in sorted(filter(None, answers), key=len, reverse=True):
        if answer not in left:
            return True
        left = left.replace(answer, "\n", 1)
    return False
