"""P1: what the loss covers, read back from the trained tokens and held against the answers of the rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from engine.data.preflight_case import PreflightCase, Verdict, counted, listed, percent
from engine.data.rows import Row
from engine.data.token_facts import trained_runs

LEAST_CONTEXT_CHARS = 4
"""Characters of a question that must turn up among the trained ones; fewer may stand there by chance."""
FEW_SHARE = 0.01


@dataclass(slots=True)
class _Masks:
    """What was found in the drawn rows."""

    asked: list[str] = field(default_factory=list)
    rewritten: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)
    num_answers: int = 0


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
    }
    return _chat_verdict(case, found, everything, share, measured)


def _text_verdict(case: PreflightCase, share: float, measured: Mapping[str, float]) -> Verdict:
    partly = case.facts.where(~case.facts.all_trained)
    if partly:
        return Verdict(
            "blocked",
            f"{counted(len(partly), 'text is', 'texts are')} trained only in part ({listed(partly)}).",
            "Report this: plain text is trained whole.",
            partly,
            measured,
        )
    return Verdict("passed", f"Plain text: {percent(share)} of all tokens are trained.", measured=measured)


def _chat_verdict(
    case: PreflightCase, found: _Masks, everything: Sequence[str], share: float, measured: Mapping[str, float]
) -> Verdict:
    drawn = len(case.drawn)
    if case.facts.all_trained.all():
        return _all_trained(case, everything, measured)
    if found.asked or found.empty:
        rows = [*found.asked, *found.empty]
        some = [f"the loss covers questions in {counted(len(found.asked), 'row', 'rows')}"] if found.asked else []
        some += [f"it leaves out an answer in {counted(len(found.empty), 'row', 'rows')}"] if found.empty else []
        return Verdict(
            "blocked" if len(rows) > FEW_SHARE * drawn else "warning",
            f"Of {counted(drawn, 'row', 'rows')} read back, {' and '.join(some)} ({listed(rows)}).",
            "Set model.chat_template to chatml, or correct the generation markers of the template.",
            rows,
            measured,
        )
    said = f"{percent(share)} of all tokens are trained: the answers and the ends of turns"
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
    found = _Masks()
    decode = case.renderer.tokenizer.decode
    for row, sequences in case.drawn:
        texts = [str(decode(run)) for sequence in sequences for run in trained_runs(sequence)]
        _compare(case, row, [_bare(text) for text in texts], found)
    return found


def _compare(case: PreflightCase, row: Row, runs: Sequence[str], found: _Masks) -> None:
    """Hold the trained runs of a row against its answers."""
    answers = [_spelled(case, message["content"]) for message in row["messages"] if message["role"] == "assistant"]
    context = [_spelled(case, message["content"]) for message in row["messages"] if message["role"] != "assistant"]
    context = [text for text in context if len(text) >= LEAST_CONTEXT_CHARS]
    found.num_answers += len(answers)
    left = "\n".join(runs)
    rewritten = False
    for answer in sorted(answers, key=len, reverse=True):
        if answer and answer not in left:
            rewritten = True
        left = left.replace(answer, "", 1) if answer else left
    if any(text in left for text in context):
        found.asked.append(row["id"])
    elif len(runs) < len(answers) and _unlearnt(answers, runs):
        found.empty.append(row["id"])
    elif rewritten:
        found.rewritten.append(row["id"])


def _unlearnt(answers: Sequence[str], runs: Sequence[str]) -> bool:
    """Return whether an answer stands nowhere among the trained runs; two answers may share a run."""
    together = "\n".join(runs)
    return any(answer and answer not in together for answer in answers)


def _spelled(case: PreflightCase, text: str) -> str:
    """Return a text as the tokenizer gives it back, because some change case or know not every character."""
    tokenizer = case.renderer.tokenizer
    return _bare(str(tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"])))


def _bare(text: str) -> str:
    # White space moves at the borders of turns, and some tokenizers put a space in front of each piece.
    return "".join(text.split())
