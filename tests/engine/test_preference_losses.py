"""The losses of preference and of rewards: those of the installed TRL, number by number, and their known points.

TRL's own functions are called on made log-probabilities, with a stand-in for what they ask of their trainer.
"""

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from trl import DPOTrainer, KTOTrainer, RewardTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

from engine.catalog.preference_losses import PREFERENCE_LOSSES
from engine.objectives.preference_losses import (
    Answers,
    LossSettings,
    answer_losses,
    mismatch_divergence,
    pair_losses,
    rewards_of,
)
from engine.objectives.reward_model import reward_losses

PAIRS, LENGTH = 6, 9


def made(seed: int, rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log-probabilities of tokens [rows, LENGTH - 1], 0 where nothing is trained, and the completion mask."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.zeros(rows, LENGTH, dtype=torch.long)
    for row in range(rows):
        mask[row, 2 + row % 3 : 5 + row % 4] = 1
    logps = -torch.rand(rows, LENGTH - 1, generator=generator) * 2 * mask[:, 1:]
    return logps, mask


def told(logps: torch.Tensor) -> SimpleNamespace:
    zeros = torch.zeros_like(logps)
    return SimpleNamespace(
        log_probs=logps, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool(), log_sum_sq_probs=zeros
    )


def stand_in(**settings: object) -> SimpleNamespace:
    """Return what TRL's losses ask of their trainer."""

    def same(value: torch.Tensor) -> torch.Tensor:
        return value

    return SimpleNamespace(
        model=SimpleNamespace(training=False),
        accelerator=SimpleNamespace(device=torch.device("cpu"), gather_for_metrics=same, gather=same),
        aux_loss_enabled=False,
        precompute_ref_logps=True,
        ld_alpha=None,
        f_divergence_type="reverse_kl",
        use_weighting=False,
        loss_weights=[1.0],
        label_smoothing=0.0,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
        **settings,
    )


def sides() -> tuple[Answers, Answers, dict[str, torch.Tensor], torch.Tensor]:
    """Return chosen and rejected answers, and the batch that TRL reads with what its model would tell of it."""
    logps, mask = made(3, 2 * PAIRS)
    reference = torch.linspace(-9, -1, 2 * PAIRS)
    tokens = mask.sum(dim=1)
    sums = logps.sum(dim=1)
    chosen, rejected = (
        Answers(sums[part], tokens[part], reference[part]) for part in (slice(0, PAIRS), slice(PAIRS, None))
    )
    batch = {
        "input_ids": torch.ones(2 * PAIRS, LENGTH, dtype=torch.long),
        "attention_mask": torch.ones(2 * PAIRS, LENGTH, dtype=torch.long),
        "completion_mask": mask,
        "ref_chosen_logps": reference[:PAIRS],
        "ref_rejected_logps": reference[PAIRS:],
    }
    return chosen, rejected, batch, logps


@pytest.mark.parametrize(
    ("ours", "theirs", "beta"), [("dpo", "sigmoid", 0.1), ("dpo", "sigmoid", 0.7), ("ipo", "ipo", 1.0)]
)
def test_dpo_and_ipo_are_those_of_the_library(ours: str, theirs: str, beta: float) -> None:
    chosen, rejected, batch, logps = sides()
    trainer = stand_in(loss_types=[theirs], beta=beta)
    expected = DPOTrainer._compute_loss(trainer, lambda **_: told(logps), batch, False)
    settings = LossSettings(loss=ours, beta=beta)
    torch.testing.assert_close(pair_losses(chosen, rejected, settings).mean(), expected)
    if ours == "dpo":
        margin = (rewards_of(chosen, settings) - rewards_of(rejected, settings)).mean()
        assert float(margin) == pytest.approx(trainer._metrics["eval"]["rewards/margins"][0], rel=1e-5)


def test_smoothed_dpo_is_the_conservative_one_of_the_library_without_a_reference() -> None:
    chosen, rejected, _, _ = sides()
    trainer = stand_in(loss_type="sigmoid", beta=0.3, alpha=0.0)
    trainer.label_smoothing = 0.2
    expected, _, _ = CPOTrainer.cpo_loss(trainer, chosen.ratios_B, rejected.ratios_B)
    settings = LossSettings(loss="dpo", beta=0.3, label_smoothing=0.2)
    torch.testing.assert_close(pair_losses(chosen, rejected, settings), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_simpo_is_that_of_the_library(smoothing: float) -> None:
    chosen, rejected, _, _ = sides()
    trainer = stand_in(loss_type="simpo", beta=2.0, simpo_gamma=1.0, alpha=0.0)
    trainer.label_smoothing = smoothing
    expected, _, _ = CPOTrainer.cpo_loss(trainer, chosen.mean_logps_B, rejected.mean_logps_B)
    settings = LossSettings(loss="simpo", beta=2.0, simpo_gamma=1.0, label_smoothing=smoothing)
    torch.testing.assert_close(pair_losses(chosen, rejected, settings), expected)


def test_orpo_is_the_librarys_odds_ratio_beside_the_loss_of_the_chosen_answer() -> None:
    chosen, rejected, _, _ = sides()
    ratio, *_ = ORPOTrainer.odds_ratio_loss(stand_in(beta=0.1), chosen.mean_logps_B, rejected.mean_logps_B)
    expected = -chosen.mean_logps_B - ratio
    torch.testing.assert_close(pair_losses(chosen, rejected, LossSettings(loss="orpo", beta=0.1)), expected)


def test_orpo_stays_finite_for_an_answer_that_is_certain() -> None:
    logps = torch.zeros(2, requires_grad=True)
    certain = Answers(logps, torch.ones(2), torch.zeros(2))
    other = Answers(torch.tensor([-1.0, 0.0]), torch.ones(2), torch.zeros(2))
    loss = pair_losses(certain, other, LossSettings(loss="orpo")).sum()
    loss.backward()
    assert torch.isfinite(loss)
    assert logps.grad is not None
    assert torch.isfinite(logps.grad).all()


@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.5, 0.5)])
def test_kto_is_that_of_the_library(weights: tuple[float, float]) -> None:
    logps, mask = made(5, PAIRS)
    other, other_mask = made(6, PAIRS)
    good = torch.tensor([True, False, True, True, False, True])
    reference, other_reference = torch.linspace(-6, -1, PAIRS), torch.linspace(-9, -5, PAIRS)
    batch = {
        "input_ids": torch.ones(PAIRS, LENGTH, dtype=torch.long),
        "attention_mask": torch.ones(PAIRS, LENGTH, dtype=torch.long),
        "completion_mask": mask,
        "KL_input_ids": torch.full((PAIRS, LENGTH), 2),
        "KL_attention_mask": torch.ones(PAIRS, LENGTH, dtype=torch.long),
        "KL_completion_mask": other_mask,
        "label": good,
        "ref_logps": reference,
        "ref_KL_logps": other_reference,
    }
    trainer = stand_in(
        loss_type="kto", beta=0.3, calculate_KL=True, desirable_weight=weights[0], undesirable_weight=weights[1]
    )
    trainer._compute_kl_logps = lambda model, inputs: KTOTrainer._compute_kl_logps(trainer, model, inputs)

    def model(**inputs: torch.Tensor) -> SimpleNamespace:
        return told(other if int(inputs["input_ids"][0, 0]) == 2 else logps)

    expected = KTOTrainer._compute_loss(trainer, model, batch, False)
    settings = LossSettings(loss="kto", beta=0.3, desirable_weight=weights[0], undesirable_weight=weights[1])
    divergence = mismatch_divergence((other.sum(dim=1) - other_reference).sum(), PAIRS)
    assert float(divergence) == pytest.approx(trainer._metrics["eval"]["kl"][0], rel=1e-5)
    assert float(divergence) > 0
    answers = Answers(logps.sum(dim=1), mask.sum(dim=1), reference)
    torch.testing.assert_close(answer_losses(answers, good, divergence, settings).mean(), expected)


@pytest.mark.parametrize("centering", [0.0, 0.01])
def test_the_reward_loss_is_that_of_the_library(centering: float) -> None:
    rewards = torch.linspace(-2, 3, 2 * PAIRS)[torch.randperm(2 * PAIRS, generator=torch.Generator().manual_seed(1))]
    trainer = stand_in(args=SimpleNamespace(center_rewards_coefficient=centering or None))
    batch = {"input_ids": torch.ones(1), "attention_mask": torch.ones(1)}
    model = lambda **_: SimpleNamespace(logits=rewards[:, None])  # noqa: E731 - a stand-in
    expected = RewardTrainer.compute_loss(trainer, model, batch)
    torch.testing.assert_close(reward_losses(rewards[:PAIRS], rewards[PAIRS:], centering).mean(), expected)


def test_a_model_that_is_its_own_reference_has_the_losses_of_not_knowing() -> None:
    same = torch.tensor([-3.0, -8.0])
    answers = Answers(same, torch.tensor([3, 4]), same)
    for loss, expected in (("dpo", math.log(2)), ("ipo", 0.25)):
        settings = LossSettings(loss=loss, beta=1.0)
        assert pair_losses(answers, answers, settings).tolist() == pytest.approx([expected] * 2)
        assert rewards_of(answers, settings).tolist() == [0.0, 0.0]
    kto = answer_losses(answers, torch.tensor([True, False]), torch.zeros(()), LossSettings(loss="kto"))
    assert kto.tolist() == [0.5, 0.5]


def test_divergence_is_never_below_zero() -> None:
    assert float(mismatch_divergence(torch.tensor(-3.0), 2)) == 0.0


@pytest.mark.parametrize("loss", [loss.name for loss in PREFERENCE_LOSSES if loss.name != "kto"])
def test_every_loss_of_pairs_falls_when_the_chosen_answer_gets_likelier(loss: str) -> None:
    rejected = Answers(torch.tensor([-6.0]), torch.tensor([4]), torch.tensor([-6.0]))
    near, far = (
        pair_losses(
            Answers(torch.tensor([logp]), torch.tensor([4]), torch.tensor([-6.0])), rejected, LossSettings(loss)
        )
        for logp in (-6.0, -5.0)
    )
    assert float(far) < float(near)
