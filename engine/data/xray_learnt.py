"""What a sequence teaches besides its tokens, in words: classes, tags, the side of a pair, a text to write."""

from collections.abc import Sequence

from engine.catalog.tasks import Task

MAX_TAGS = 12


def learnt_words(task: Task, targets: Sequence[int], tagged: Sequence[str], *, alone: bool = False) -> str:
    """Return what is learnt of one sequence; empty where that is the trained tokens alone.

    Args:
        task: What the model is asked to give out.
        targets: As `engine.data.encoding.Tokens.targets` has it.
        tagged: Texts of the trained tokens, in order.
        alone: A row has one answer, which is good or bad, instead of two that are compared.
    """
    match task.signal:
        case "labels":
            return ", ".join(task.labels[number] for number in targets) or "none of the classes"
        case "tags":
            named = [
                f"{text.strip()} {task.labels[number]}"
                for text, number in zip(tagged, targets, strict=False)
                if task.labels[number] != "O"
            ]
            more = f" and {len(named) - MAX_TAGS} more" if len(named) > MAX_TAGS else ""
            return (", ".join(named[:MAX_TAGS]) or "no entity") + more
        case "preferences" | "rewards" if targets and alone:
            return "a good answer" if targets[0] else "a bad answer"
        case "preferences" | "rewards" if targets:
            return "the better answer" if targets[0] else "the worse answer"
        case "prompts":
            return "the model writes the answers"
        case _:
            return ""


def whole_words(task: Task, *, alone: bool = False) -> str:
    """Return what is learnt of every sequence, as a sentence; empty where the share of trained tokens says it.

    Args:
        task: What the model is asked to give out.
        alone: As for `learnt_words`.
    """
    match task.signal:
        case "text" if task.head == "masked-lm":
            return "Words are hidden, others at each step; those of the first step are marked."
        case "labels":
            several = "which of them each text has" if task.multi_label else "which one each text has"
            return f"{len(task.labels)} classes are learnt: {several}."
        case "tags":
            return f"{len(task.labels)} tags are learnt, each word's on its first token."
        case "preferences":
            return (
                "Good answers become likelier, bad ones rarer." if alone else "Pairs: better answers become likelier."
            )
        case "rewards":
            return "Pairs: better answers are to score higher."
        case "prompts":
            return "Prompts: the model writes the answers."
        case _:
            return ""
