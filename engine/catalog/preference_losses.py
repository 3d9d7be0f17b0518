"""Losses of preference alignment: what each compares, what it needs, and which settings it reads."""

from dataclasses import dataclass
from typing import Literal

PreferenceLossName = Literal["dpo", "ipo", "kto", "orpo", "simpo"]


@dataclass(frozen=True, slots=True)
class PreferenceLoss:
    """One way of learning from answers that are better or worse.

    Attributes:
        name: What a recipe says.
        title: For lists.
        summary: What it does, one sentence.
        when: When to take it.
        uses_reference: It compares with the untouched model, whose log-probabilities are computed once before step 1.
        reads_unpaired: It learns from single answers that are marked good or bad too; pairs are taken apart for it.
        beta: Default of `preference.beta`.
        beta_why: Where that is from.
        rate_share: What is left of the learning rate that is usual for answers: a preference goes too far at more.
        settings: Recipe paths that only some losses read and that this one does.
        paper: Where it is described.
    """

    name: PreferenceLossName
    title: str
    summary: str
    when: str
    uses_reference: bool
    reads_unpaired: bool
    beta: float
    beta_why: str
    rate_share: float
    settings: tuple[str, ...]
    paper: str


PREFERENCE_LOSSES: tuple[PreferenceLoss, ...] = (
    PreferenceLoss(
        name="dpo",
        title="DPO",
        summary="Raises the chosen answer over the rejected one, measured against the untouched model.",
        when="The usual choice for pairs.",
        uses_reference=True,
        reads_unpaired=False,
        beta=0.1,
        beta_why="the value of the DPO paper",
        rate_share=0.1,
        settings=("preference.label_smoothing",),
        paper="https://arxiv.org/abs/2305.18290",
    ),
    PreferenceLoss(
        name="ipo",
        title="IPO",
        summary="Pushes the two answers apart by a fixed amount and no further.",
        when="DPO overfits: the margin keeps growing while the held-out loss rises.",
        uses_reference=True,
        reads_unpaired=False,
        beta=1.0,
        beta_why="the two answers come half a nat a token apart, 1 / (2 x beta), and no further",
        rate_share=0.1,
        settings=(),
        paper="https://arxiv.org/abs/2310.12036",
    ),
    PreferenceLoss(
        name="kto",
        title="KTO",
        summary="Learns from single answers marked good or bad; pairs are taken apart.",
        when="You have thumbs up and down instead of pairs.",
        uses_reference=True,
        reads_unpaired=True,
        beta=0.1,
        beta_why="the value of the KTO paper",
        rate_share=0.1,
        settings=("preference.desirable_weight", "preference.undesirable_weight"),
        paper="https://arxiv.org/abs/2402.01306",
    ),
    PreferenceLoss(
        name="orpo",
        title="ORPO",
        summary="Learns the chosen answer as in chat, and keeps the odds of the rejected one down; no reference.",
        when="You start from a base model that was never tuned to chat.",
        uses_reference=False,
        reads_unpaired=False,
        beta=0.1,
        beta_why="the weight that the ORPO paper gives the odds ratio",
        rate_share=0.4,
        settings=(),
        paper="https://arxiv.org/abs/2403.07691",
    ),
    PreferenceLoss(
        name="simpo",
        title="SimPO",
        summary="Compares the mean log-probability of a token, with a margin; no reference.",
        when="DPO makes answers long, or there is no time for a reference.",
        uses_reference=False,
        reads_unpaired=False,
        beta=2.0,
        beta_why="the lower end of what the SimPO paper takes, 2.0 to 2.5",
        rate_share=0.1,
        settings=("preference.label_smoothing", "preference.simpo_gamma"),
        paper="https://arxiv.org/abs/2405.14734",
    ),
)

LOSS_SETTINGS: tuple[str, ...] = tuple(dict.fromkeys(path for loss in PREFERENCE_LOSSES for path in loss.settings))
"""Recipe paths that some loss does not read."""


def find_loss(name: str) -> PreferenceLoss:
    """Return the loss of this name.

    Raises:
        KeyError: No loss has this name.
    """
    for loss in PREFERENCE_LOSSES:
        if loss.name == name:
            return loss
    raise KeyError(name)


def losses_reading(path: str) -> list[str]:
    """Return the names of the losses that read a setting."""
    return [loss.name for loss in PREFERENCE_LOSSES if path in loss.settings]
