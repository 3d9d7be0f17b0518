"""P34 and P35: the reference that answers are compared with, and the judge that will be asked at the end."""

import math

import torch

from engine.data.preflight_case import Verdict
from engine.models.reward import load_reward_model
from engine.objectives.build import make_examples
from engine.objectives.preference_losses import settings_of
from engine.objectives.references import make_references
from engine.out_of_memory import give_back_memory
from engine.training.context import RunContext

NUM_ROWS = 4
FAR = 0.05
"""How far the first loss may be from that of not knowing: rounding in 16 bits explains less."""


def check_reference(context: RunContext) -> Verdict:
    """Ask the model again for a few rows: finite numbers, and a first loss that is that of not knowing."""
    assert context.references is not None
    table = context.references.train
    read = torch.nonzero(~torch.isnan(table).all(dim=1)).flatten().tolist()
    sequences = make_examples(context.recipe, context.task, context.rendered, context.renderer.max_length)
    broken = [place for place in read if not bool(torch.isfinite(table[place]).all())]
    if broken:
        return Verdict(
            "blocked",
            f"The untouched model gives no finite probability to {len(broken)} of {len(read)} rows.",
            "Look at these rows, and at the files of the base model.",
            sequences.row_ids(broken),
        )
    places = read[:: max(1, len(read) // NUM_ROWS)][:NUM_ROWS]
    again = make_references(context.recipe, context.model, sequences, places)[places]
    farthest = float((again - table[places]).abs().max())
    settings = settings_of(context.recipe)
    loss = math.log(1 + math.exp(settings.beta * farthest))
    measured = {"rows": float(len(read)), "farthest_nats": farthest, "first_loss_at_most": loss}
    words = f"The model and its reference differ by at most {farthest:.2g} nats on {len(places)} rows"
    if loss - math.log(2) > FAR:
        fix = "Use training.precision float32 or bfloat16, or a smaller preference.beta."
        return Verdict("warning", f"{words}: the first steps learn from rounding.", fix, measured=measured)
    return Verdict("passed", f"{words}; {len(read):,} rows are kept.", measured=measured)


def check_judge(context: RunContext) -> Verdict:
    """Load the judge and let it score one answer, so that a wrong name costs no training."""
    judge = context.recipe.preference.judge
    assert judge is not None
    loaded = load_reward_model(judge)
    said = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hello."}]
    (score,) = loaded.score([said])
    del loaded
    give_back_memory()
    if not math.isfinite(score):
        return Verdict("blocked", "The judge gives a score that is no number.", "Name another reward model.")
    return Verdict("passed", f"The judge can be asked; a greeting scores {score:.2f}.", measured={"score": score})
