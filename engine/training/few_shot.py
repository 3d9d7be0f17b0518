"""The few-shot baseline of a run: measured once, on the untouched base model, before the first step."""

from engine.evaluation.few_shot import FewShot
from engine.evaluation.generation import context_length
from engine.evaluation.measurement import measurement_file
from engine.evaluation.texts import DEFAULT_NEW_TOKENS
from engine.training.context import RunContext
from engine.training.run import evaluate


def measure_few_shot(context: RunContext) -> None:
    """Measure the base model with training rows in its prompt, unless that is off or done; say so where none fit.

    Raises:
        StopRequested: A stop was asked for in the middle.
        TrainingFaultError: The device failed.
    """
    done = (context.run.evaluation_folder / measurement_file("few_shot", 0)).exists()
    if done or not context.examples or not context.held_out_rows:
        return
    few_shot = FewShot(
        context.tokenizer,
        context.renderer,
        context.examples,
        context=context_length(context.model),
        max_new_tokens=context.recipe.evaluation.max_new_tokens or DEFAULT_NEW_TOKENS,
        plain_text=not context.plan.model.has_chat_template,
    ).limited_to(context.held_out_rows)
    if few_shot.examples:
        context.events.write("state.changed", state="evaluating", reason="the base model with examples in its prompt")
        evaluate(context, "few_shot", 0, few_shot)
        return
    context.notice(
        "note",
        "evaluation.few_shot_left_out",
        f"There is no few-shot baseline: no example fits into the context of {few_shot.context} tokens with a question "
        "and its answer.",
    )
