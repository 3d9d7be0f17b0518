"""Checks that hold training against serving: the same tokens from the renderer, an exported tokenizer and the chat."""

from engine.data.frames import cut_pair
from engine.data.preflight_case import PreflightCase, Verdict, counted, listed
from engine.data.served_prompts import Served

_CLOSE_TEMPLATE = "Correct the chat template, or set model.chat_template to chatml."


def check_first_token(case: PreflightCase) -> Verdict:
    """P4: no sequence and no prompt begins with the first token twice, in training, evaluation and serving."""
    bos = case.renderer.tokenizer.bos_token_id
    if bos is None:
        return Verdict("passed", "The tokenizer has no first token of its own.")
    trained = case.facts.where(case.facts.doubled)
    served = case.served
    asked = [each.row["id"] for each in served if each.asked[:2] == [bos, bos]]
    later = [each.row["id"] for each in served if [bos, bos] in ((each.exported or [])[:2], (each.chatted or [])[:2])]
    measured = {
        "sequences": len(case.whole.sequences),
        "prompts": len(served),
        "doubled_in_training": len(trained),
        "doubled_in_evaluation": len(asked),
        "doubled_in_serving": len(later),
    }
    places = [name for name, rows in (("training", trained), ("evaluation", asked), ("serving", later)) if rows]
    if not places:
        number = counted(len(case.whole.sequences), "sequence", "sequences")
        return Verdict("passed", f"{number} and {len(served):,} prompts begin once.", measured=measured)
    rows = [*trained, *asked, *later]
    return Verdict(
        "blocked",
        f"The first token of a text stands twice in {' and '.join(places)} ({listed(rows)}): the chat template writes "
        "it and so does the tokenizer, or the template does so twice.",
        _CLOSE_TEMPLATE,
        rows,
        measured,
    )


def check_serving(case: PreflightCase) -> Verdict:
    """P5: a prompt has the same ids in training, from the exported tokenizer's own template, and in the chat."""
    served = case.served
    refused = [each.row["id"] for each in served if None in (each.exported, each.chatted)]
    exported = [each.row["id"] for each in served if each.exported is not None and each.exported != each.asked]
    chatted = [each.row["id"] for each in served if each.chatted is not None and each.chatted != each.asked]
    measured = {
        "prompts": len(served),
        "other_ids_exported": len(exported),
        "other_ids_in_chat": len(chatted),
        "refused_by_export": len(refused),
    }
    rows = list(dict.fromkeys([*exported, *chatted]))
    if rows:
        where = [name for name, found in (("the exported tokenizer", exported), ("the chat", chatted)) if found]
        return Verdict(
            "blocked",
            f"{counted(len(rows), 'prompt reads', 'prompts read')} otherwise in {' and '.join(where)} than in training "
            f"({listed(rows)}), so the served model would see what it never learnt.",
            _CLOSE_TEMPLATE,
            rows,
            measured,
        )
    if refused:
        return Verdict(
            "warning",
            f"The exported chat template refuses {counted(len(refused), 'prompt', 'prompts')} ({listed(refused)}).",
            _CLOSE_TEMPLATE,
            refused,
            measured,
        )
    number = counted(len(served), "prompt has", "prompts have")
    return Verdict("passed", f"{number} the same ids in training, export and chat.", measured=measured)


def check_prefix(case: PreflightCase) -> Verdict:
    """P6: the ids of the prompt that asks for the last answer are how the whole row begins."""
    served = case.served
    broken = [each.row["id"] for each in served if _beginning(case, each)[: len(each.asked)] != each.asked]
    measured = {"prompts": len(served), "not_a_prefix": len(broken)}
    if broken:
        return Verdict(
            "blocked",
            f"{counted(len(broken), 'prompt is', 'prompts are')} not how the trained row begins ({listed(broken)}).",
            _CLOSE_TEMPLATE,
            broken,
            measured,
        )
    number = counted(len(served), "prompt is", "prompts are")
    return Verdict("passed", f"{number} how the trained row begins.", measured=measured)


def _beginning(case: PreflightCase, served: Served) -> list[int]:
    """Return the tokens of the trained row; of a pair its source, cut as the prompt is."""
    sequence = served.sequences[-1]
    if not case.renderer.frame.pairs:
        return sequence.input_ids
    source = sequence.input_ids[: sequence.trained_mask.index(1)]
    kept = cut_pair(len(source), len(source), case.renderer.max_length, 0, len(case.renderer.frame.tail))
    return [*source[: kept.gap_begin], *source[kept.gap_end :]]
