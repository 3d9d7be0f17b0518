"""The X-ray in words: what is trained, which sequence is shown and why it stands out."""

from collections.abc import Sequence
from dataclasses import replace

from textual.content import Content

from engine.recipe.problems import Problem
from engine.text import clean_line
from tui.backend import WorkProgress, XrayOrder, XrayPage, XraySequence
from tui.widgets.labels import problem_label, tail
from tui.widgets.token_marks import LEGEND, LINE_FEED, UNTRAINED_LEGEND

ORDER_WORDS: dict[XrayOrder, str] = {
    "file": "in file order",
    "longest": "by length",
    "cut": "that are cut",
    "odd": "that stand out",
}
NONE_OF: dict[XrayOrder, str] = {
    "file": "There is no sequence.",
    "longest": "There is no sequence.",
    "cut": "No sequence is cut.",
    "odd": "No sequence stands out.",
}
MAX_ERROR_CHARS = 150
"""Two lines of 80 columns."""
MAX_PROBLEMS = 2
_ENDS = {"targets": ("their ends", "end of its target", "their ends")}
"""How ends are told of trained texts that are no answers: of all, of none, of some."""
HIDDEN_WORDS = "hidden words"
_READS: dict[str, str] = {
    "labels": "the model reads all of it and learns the class behind the arrow.",
    "tags": "the model reads all of it and learns the tag of each word, on the token that is marked.",
    "preferences": "the model learns to find the better text likelier than the worse one.",
    "rewards": "the model reads all of it and learns a number, higher for the better text.",
    "prompts": "the model reads a prompt, and writes answers to it while it learns.",
    HIDDEN_WORDS: "the model guesses the words that are marked; most of them are hidden behind a mask.",
}
UNTRAINED = frozenset({"labels", "rewards", "prompts"})
"""What is learnt of a text as a whole, or of what the model adds to it: no token of it is trained."""
_KEYS = "n p turn, g a number, f file order, j k scroll."
MAX_REASONS = 2


def percent(share: float) -> str:
    """Return a share from 0 to 1 in percent; a share near none or all is never rounded to it."""
    if share <= 0 or share >= 1:
        return f"{100 * min(1, max(0, share)):.0f} %"
    if share < 0.001:
        return "less than 0.1 %"
    if share > 0.999:
        return "more than 99.9 %"
    return f"{100 * share:.0f} %" if 0.01 <= share <= 0.99 else f"{100 * share:.1f} %"


def headline(page: XrayPage) -> str:
    """Return what is true of all sequences, in one or two sentences."""
    if page.learnt:
        return f"{clean_line(page.learnt)} {_cut_words(page)}."
    what = f": {_trained_words(page)}" if page.trained_share > 0 else ""
    return f"{percent(page.trained_share)} of all tokens are trained{what}. {_cut_words(page)}."


def _trained_words(page: XrayPage) -> str:
    """Return what the trained tokens are, as they were counted in the sequences."""
    if page.all_trained:
        # The first token of a sequence has nothing before it that could predict it.
        return "all of the text" if page.trained_share >= 1 else "the text, all but the token that begins a row"
    # A text that is made of another is no turn of a talk.
    ends, end, last = _ENDS.get(page.answers, ("the ends of turns", "end of its turn", "the end of the last turn"))
    if page.num_ended == page.num_rows:
        return f"the {page.answers} and {ends}"
    if not page.num_ended:
        return f"the {page.answers}; no row ends with a trained {end}"
    return f"the {page.answers}, and {last} in {page.num_ended:,} of {page.num_rows:,} rows"


def _cut_words(page: XrayPage) -> str:
    kind = "packed sequences" if page.packed else "sequences"
    length = f"{page.max_length:,} tokens"
    if page.num_cut:
        cut = (
            f"{page.num_cut:,} of {page.num_sequences:,} {kind} {'is' if page.num_cut == 1 else 'are'} cut at {length}"
        )
    else:
        cut = f"None of {page.num_sequences:,} {kind} is cut at {length}"
    odd = f"{page.num_odd:,} {'stands' if page.num_odd == 1 else 'stand'} out" if page.num_odd else "none stands out"
    gone = f", {page.num_dropped:,} row{'' if page.num_dropped == 1 else 's'} left out" if page.num_dropped else ""
    return f"{cut}, {odd}{gone}"


def help_words(learnt: str) -> str:
    """Return what a sequence shows, and the keys.

    Args:
        learnt: What the loss is taken from, as an objective's `signal` says, or `HIDDEN_WORDS`.
    """
    reads = _READS.get(learnt, "the model learns to write what is trained and only reads the rest.")
    return f"What the trainer will draw: {reads} {_KEYS}"


def short_headline(page: XrayPage) -> str:
    """Return the same for one line of the review."""
    cut = f"{page.num_cut:,} of {page.num_sequences:,} cut at {page.max_length:,}" if page.num_cut else "none cut"
    odd = f"{page.num_odd:,} odd" if page.num_odd else "none odd"
    what = (
        clean_line(page.learnt).rstrip(".") if page.learnt else f"{percent(page.trained_share)} of the tokens trained"
    )
    return f"{what}, {cut}, {odd}"


def summary_content(page: XrayPage, problems: Sequence[Problem], *, asks: bool) -> Content:
    """Return the headline, the worst findings, and the question where there is one."""
    nothing = page.trained_share <= 0 and not page.learnt
    mark = ("✗ ", "bold $error") if nothing or any(p.severity == "error" for p in problems) else ("✓ ", "bold $success")
    length = Content.styled(f" Length: {clean_line(page.length_from, max_chars=70)}.", "$text-muted")
    lines = [Content.assemble(mark, (headline(page), "bold"), length)]
    if asks:
        lines.append(Content.styled("? Train on everything? Press y to answer, esc to go back.", "bold $warning"))
    lines += [_finding(problem) for problem in problems[:MAX_PROBLEMS]]
    if len(problems) > MAX_PROBLEMS:
        lines.append(Content.styled(f"  and {len(problems) - MAX_PROBLEMS} more, on the review", "$text-muted"))
    return Content("\n").join(lines)


def _finding(problem: Problem) -> Content:
    """Return a finding; rows that it names never push its way out off the screen.

    One that closes the way on has its way out on a line of its own.
    """
    if not problem.fix:
        return problem_label(problem)
    short = replace(problem, message=clean_line(problem.message, max_chars=MAX_ERROR_CHARS))
    if problem.severity != "error":
        return problem_label(short)
    short = replace(short, fix="")
    return Content.assemble(problem_label(short), "\n", (f"  → {clean_line(problem.fix)}", "bold"))


def legend_content(*, marked: bool, trained: bool = True) -> Content:
    """Return how the kinds of tokens are told apart, in one line.

    Args:
        marked: By marks, where there are no colours.
        trained: Some tokens are trained; where a class is learnt, none of the text is.
    """
    if marked:
        return Content(LEGEND if trained else UNTRAINED_LEGEND)
    mark = (("trained", "underline $success on $trained-background"), ("  ", "")) if trained else ()
    return Content.assemble(
        *mark,
        ("context  ", ""),
        ("special token", "bold $secondary"),
        (f"  {LINE_FEED} line feed", "$text-muted"),
    )


def heading_content(sequence: XraySequence, place: int, total: int, order: XrayOrder) -> Content:
    """Return which sequence this is, and why it stands out."""
    ids = tail(sequence.row_ids[0], 28) if sequence.row_ids else ""
    if len(sequence.row_ids) > 1:
        ids += f" and {len(sequence.row_ids) - 1:,} more"
    name = "" if order == "file" else f" = sequence {sequence.number + 1:,}"
    lines = [
        Content.assemble(
            (f"{place + 1:,} of {total:,} {ORDER_WORDS[order]}{name}", "bold $accent"),
            (f"  {ids}", "$text-muted"),
            _learns(sequence),
        )
    ]
    lines += [Content.styled(f"! {clean_line(reason)}", "$warning") for reason in sequence.reasons[:MAX_REASONS]]
    if len(sequence.reasons) > MAX_REASONS:
        lines.append(Content.styled(f"! and {len(sequence.reasons) - MAX_REASONS} more reasons", "$warning"))
    return Content("\n").join(lines)


def _learns(sequence: XraySequence) -> tuple[str, str]:
    if sequence.learns:
        return f"  → {clean_line(sequence.learns, max_chars=120)}", "bold $success"
    counts = f"  {sequence.num_trained:,} of {sequence.num_tokens:,} trained"
    return counts, "" if sequence.num_trained else "$error"


def work_content(work: WorkProgress | None) -> Content:
    """Return how far the reading is."""
    cancels = ("  esc cancels", "$text-muted")
    if work is None:
        return Content.assemble(("◌ Making the sequences that the trainer will draw…", "bold $primary"), cancels)
    share = (
        f" {100 * work.done / work.total:.0f} %" if work.total else f" {work.done:,} {work.unit}" if work.done else ""
    )
    return Content.assemble((f"◌ {clean_line(work.stage)}…{share}", "bold $primary"), cancels)
