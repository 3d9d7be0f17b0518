"""Reinforcement learning: the model writes answers, a reward judges them, and what earned more becomes likelier.

TRL's trainers for GRPO (arXiv 2402.03300) and RLOO (arXiv 2402.14740) with prompts in our order. In each step every
prompt of the step is answered `reinforcement.num_generations` times by the model as it stands, once, before the first
micro-step; the micro-steps then learn from those answers. Since nothing is learnt from older answers, the ratio of new
to old probabilities is 1 and clipping it would change nothing.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from engine.data.rendered import RenderedRows
from engine.evaluation.generation import generation_share
from engine.evaluation.isolation import undisturbed
from engine.evaluation.scoring import causal_model
from engine.evaluation.stopping import stop_token_ids
from engine.objectives.drawing import Draw, Drawer, DrawSettings
from engine.objectives.parts import TrainerParts
from engine.objectives.rewarding import Rewarding, constant_reward, judged, make_rewarding
from engine.objectives.sequences import Segment, Sequences, cut_sequences
from engine.rewards.judge import Earned
from engine.training.settings import shared_settings
from engine.training.trainer import StepTrainer, float32_adapter, restore_adapter

LOSSES = {"step": "dapo", "answer": "grpo", "limit": "dr_grpo"}
"""What `reinforcement.token_mean` is called in TRL."""
CONSTANT_STEPS = 4
"""Steps at the start in which some group must hold answers that earned differently."""
FAR_FROM_BASE = 1.0
"""KL in nats per token from which on the language itself has most likely changed; useful runs stay below 0.2."""
_TENSORS = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages")
_SOMETIMES = ("old_per_token_logps", "ref_per_token_logps", "old_logps")


def examples(rendered: RenderedRows, max_length: int, *, packed: bool) -> Sequences:
    """Return rendered prompts, each on its own."""
    cut = cut_sequences(rendered, max_length, packed=False)
    return Sequences(cut.segments, cut.lengths, as_row=_row, weights=np.ones(len(cut), dtype=np.int64))


def gathered(segments: Sequence[Sequence[Segment]]) -> Sequences:
    """Return segments as the trainer takes them."""
    return Sequences(segments, as_row=_row, weights=np.ones(len(segments), dtype=np.int64))


def _row(segments: Sequence[Segment]) -> dict[str, Any]:
    (segment,) = segments
    return {
        "id": segment.row_id,
        # TRL insists on a column of this name; ids are what it is given and what it gets back.
        "prompt": segment.input_ids,
        "row": json.loads(bytes(segment.targets)),
    }


def trainer(parts: TrainerParts) -> StepTrainer:
    """Return a trainer that writes, judges and learns."""
    section = parts.recipe.reinforcement
    rewarding = parts.rewarding or make_rewarding(parts.recipe, parts.model)
    adapter = float32_adapter(parts.model)
    shared: dict[str, Any] = {
        **shared_settings(parts),
        "num_generations": section.num_generations,
        "max_completion_length": section.max_completion,
        "temperature": section.temperature,
        "reward_weights": list(rewarding.judge.weights),
        # A reference of TRL's own would be a second model; ours is put in its place below.
        "beta": 0.0,
        "log_completions": False,
    }
    arguments: dict[str, Any] = {
        "model": parts.model,
        "reward_funcs": [_named(name) for name in rewarding.judge.names],
        # TRL insists on a data set of its library. The rows themselves stay where they are.
        "train_dataset": Dataset.from_list([{"prompt": "-"}]),
        "processing_class": parts.tokenizer,
    }
    built: GrpoTrainer | RlooTrainer
    if section.algorithm == "grpo":
        loss = LOSSES[section.token_mean or "step"]
        config = GRPOConfig(**shared, loss_type=loss, scale_rewards=section.scale_rewards or "group")
        built = GrpoTrainer(args=config, **arguments)
    else:
        scaled = section.scale_rewards == "batch"
        built = RlooTrainer(args=RLOOConfig(**shared, normalize_advantages=scaled), **arguments)
    restore_adapter(adapter)
    built.steer(parts.sequences, parts.order, parts.rate_share)
    built.take_on(parts, rewarding)
    return built


def _named(name: str) -> Callable[..., list[float]]:
    """Return a callable of this name, by which TRL counts and calls the rewards; `_calculate_rewards` is asked."""

    def reward(**_: Any) -> list[float]:
        raise AssertionError("rewards are given by the judge")

    reward.__name__ = name
    return reward


class GroupTrainer(StepTrainer):
    """What the two algorithms share; stands in front of a trainer of TRL.

    Attributes:
        rewarding: Judge and reference.
        num_written: Tokens written in the step in progress.
        earned: What its answers earned.
    """

    extra_names: ClassVar[tuple[str, ...]] = ()
    rewarding: Rewarding

    def take_on(self, parts: TrainerParts, rewarding: Rewarding) -> None:
        """Take what answers are drawn and judged with; called once, after `steer`."""
        section, training = parts.recipe.reinforcement, parts.training
        self.rewarding = rewarding
        # Both of TRL's trainers ask this attribute whether there is a second model to put their question to.
        self.ref_model = rewarding.reference if section.beta else None
        self.beta = section.beta or 0.0
        # The loss of a micro-batch is its share of the step's.
        self.loss_is_scaled_for_ga = True
        pad = parts.tokenizer.pad_token_id
        base = causal_model(parts.model)
        checkpointing = bool(training.activation_checkpointing)
        self._settings = DrawSettings(
            seed=training.seed,
            temperature=section.temperature,
            top_p=section.top_p,
            max_new_tokens=section.max_completion or 1,
            stop_ids=tuple(stop_token_ids(parts.tokenizer, base)),
            pad_id=0 if pad is None else int(pad),
            budget=parts.batching.micro_batch * (training.max_length or 1),
            share=generation_share(base, activation_checkpointing=checkpointing),
            precision=getattr(torch, training.precision or "float32"),
        )
        self.eos_token_ids = list(self._settings.stop_ids)
        self._written: dict[str, Any] | None = None
        self._written_step = -1
        self._next = 0
        self._draws: list[Draw] = []
        self._extras: dict[str, float] = {}
        self._constant_steps = 0
        self._told: set[str] = set()
        self.num_written = 0
        self.earned: list[Earned] = []
        self._learning: dict[str, Any] = {}

    # --- the answers of a step ------------------------------------------------------------------------------------

    def _prepare_inputs(self, inputs: Any) -> Any:
        """Return the answers of a micro-batch; with the first of a step, all answers of the step are written."""
        step = self.state.global_step
        if self._written_step != step or self._written is None:
            self._written, self._next = None, 0
            rows = self.sequences.dataset()
            places = self.order.rows_of_step(step)
            self._draws = _draws(places, step, [rows[place]["prompt"] for place in places])
            with undisturbed(self.model):
                # The mode that TRL asks for says which settings hold, not what the model's layers do.
                self.model.training = True
                self._written = self._generate_and_score_completions([rows[place] for place in places])
            self._written_step = step
        first, self._next = self._next, self._next + len(inputs)
        return _part(self._written, first, self._next, self._rescaled())

    def _rescaled(self) -> float:
        """Return what TRL divides a step's number of tokens by too often where a step has fewer micro-batches."""
        return float(self.args.steps_per_generation / self.current_gradient_accumulation_steps)

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [list(ids) for ids in prompts], None, {}

    def _drawn(self) -> list[list[int]]:
        """Return the answers of the step, as tokens."""
        drawer = Drawer(self.model, self._settings, look_up=self.before_micro_step, tell_smaller=self._tell_smaller)
        ids = drawer.draw(self._draws)
        self.num_written = sum(map(len, ids))
        return ids

    def _tell_smaller(self, num_rows: int, fewer: int) -> None:
        message = f"Out of memory while {num_rows} answers were written at once. Going on with {fewer}."
        self.tell("note", "reinforcement.smaller_batches", message)

    def _get_per_token_logps_and_entropies(self, model: Any, *arguments: Any, **keywords: Any) -> Any:
        """Let the reference, where it is asked, answer in the model's place."""
        reference = self.rewarding.reference
        if reference is None or model is not reference:
            return super()._get_per_token_logps_and_entropies(model, *arguments, **keywords)
        with reference.in_place():
            return super()._get_per_token_logps_and_entropies(self.model, *arguments, **keywords)

    # --- rewards --------------------------------------------------------------------------------------------------

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], _: Any, __: Any, completion_ids_list: list[list[int]]
    ) -> torch.Tensor:
        """Return what each reward gives for each answer, of shape [answers, rewards]."""
        texts = [self._text(ids) for ids in completion_ids_list]
        answers = [
            judged(row["id"], row["row"], text, len(ids))
            for row, text, ids in zip(inputs, texts, completion_ids_list, strict=True)
        ]
        self.earned = self.rewarding.judge.judge(answers)
        self._extras = self._numbers(self.earned, completion_ids_list)
        self._watch_rewards(self.earned)
        return torch.tensor([each.parts for each in self.earned], dtype=torch.float32, device=self.args.device)

    def _text(self, ids: Sequence[int]) -> str:
        body = ids[:-1] if ids and ids[-1] in self._settings.stop_ids else ids
        return str(self.processing_class.decode(body, skip_special_tokens=True))

    def _numbers(self, earned: Sequence[Earned], ids: Sequence[Sequence[int]]) -> dict[str, float]:
        """Return what the step tells besides its loss."""
        totals = np.array([each.total for each in earned])
        groups = totals.reshape(-1, self.num_generations)
        numbers = {"reward": float(totals.mean()), "reward_spread": float(groups.std(axis=1).mean())}
        names = self.rewarding.judge.names
        if len(names) > 1:
            parts = np.array([each.parts for each in earned]).mean(axis=0)
            numbers |= {f"reward_{name}": float(value) for name, value in zip(names, parts, strict=True)}
        if self.rewarding.judge.tells_solved:
            numbers["solved"] = float(np.mean([bool(each.solved) for each in earned]))
        numbers["answer_tokens"] = float(np.mean([len(each) for each in ids]))
        numbers["cut_off"] = float(np.mean([not each or each[-1] not in self._settings.stop_ids for each in ids]))
        numbers["no_difference"] = float(np.mean(groups.std(axis=1) < 1e-9))
        return numbers

    def step_teaches(self) -> bool:
        """Return whether any two answers to one prompt earned differently."""
        return self._extras["no_difference"] < 1

    def step_extras(self) -> dict[str, float]:
        """Return the numbers besides the loss of the step that just ended."""
        kl = self._metrics["train"].get("kl", [])
        distance = {"kl": float(np.mean(kl))} if kl else {}
        self._watch_distance(distance.get("kl"))
        return {**self._extras, **distance}

    def _watch_rewards(self, earned: Sequence[Earned]) -> None:
        """Say so once when the first steps hold no two answers to a prompt that earned differently."""
        if self._constant_steps < 0:
            return
        totals = [each.total for each in earned]
        if self._extras["no_difference"] < 1:
            self._constant_steps = -1
            return
        self._constant_steps += 1
        if self._constant_steps == CONSTANT_STEPS:
            solved = [each.solved for each in earned]
            count = None if None in solved else sum(map(bool, solved))
            self._tell_once(
                "reinforcement.constant_reward",
                f"In {CONSTANT_STEPS} steps all answers to each prompt earned the same ({totals[0]:g} at the start of "
                f"the last step), and nothing is learned from that. {constant_reward(totals, count)}",
            )

    def _watch_distance(self, kl: float | None) -> None:
        if kl is not None and abs(kl) > FAR_FROM_BASE:
            self._tell_once(
                "reinforcement.far_from_base",
                f"The model has moved far from the base model: KL {kl:.2f} nats per token at step "
                f"{self.state.global_step}. Read the samples: the reward may be fooled. Raise reinforcement.beta or "
                "lower training.learning_rate.",
            )

    def _tell_once(self, code: str, message: str) -> None:
        if code not in self._told:
            self._told.add(code)
            self.tell("warning", code, message)

    def tokens_of_step(self, step: int) -> int:
        """Return the tokens of a finished step: its prompts, once for each answer, and the answers."""
        return super().tokens_of_step(step) + self.num_written

    # --- loss -----------------------------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the micro-batch's share of the step's loss, which is a mean over all its answers."""
        self._learning = inputs
        loss = self._compute_loss(model, inputs)
        return loss * self._share_of(len(inputs["advantages"]), num_items_in_batch)

    def _share_of(self, num_answers: int, num_items: torch.Tensor | int | None) -> Any:
        """Return the factor from TRL's loss of a micro-batch to its share of the step."""
        raise NotImplementedError


class GrpoTrainer(GroupTrainer, GRPOTrainer):
    """GRPO with prompts in our order."""

    def _generate_single_turn(self, *_: Any, **__: Any) -> tuple[list[list[int]], None]:
        return self._drawn(), None

    def _share_of(self, num_answers: int, num_items: torch.Tensor | int | None) -> Any:
        if self.loss_type == "dapo":
            # A sum over tokens, divided by those of the step already.
            return 1.0
        # A mean over the micro-batch, divided by the number of micro-batches.
        return num_answers * self.current_gradient_accumulation_steps / (num_items or num_answers)


class RlooTrainer(GroupTrainer, RLOOTrainer):
    """RLOO with prompts in our order."""

    def _generate_single_turn(self, *_: Any, **__: Any) -> list[list[int]]:
        return self._drawn()

    def _get_per_token_logps_and_entropies(self, model: Any, *arguments: Any, **keywords: Any) -> Any:
        """Let the probabilities that are learnt from stand for those of writing, too.

        They are the same model's. With dropout the two differ by chance, and TRL would take that for an older model
        and clip it away.
        """
        found = super()._get_per_token_logps_and_entropies(model, *arguments, **keywords)
        if torch.is_grad_enabled():
            mask = self._learning["completion_mask"]
            self._learning["old_logps"] = (found[0].detach() * mask).sum(dim=1)
        return found

    def _share_of(self, num_answers: int, num_items: torch.Tensor | int | None) -> Any:
        return num_answers / (num_items or num_answers)


def _draws(places: Sequence[int], step: int, prompts: Sequence[Sequence[int]]) -> list[Draw]:
    """Return the answers that a step writes; the n-th answer to a row is another than the others to it."""
    counts: dict[int, int] = {}
    draws: list[Draw] = []
    for place, (row, prompt) in enumerate(zip(places, prompts, strict=True)):
        counts[row] = counts.get(row, -1) + 1
        draws.append(Draw(place, prompt, (step, row, counts[row])))
    return draws


def _part(written: dict[str, Any], first: int, after: int, token_factor: float) -> dict[str, Any]:
    """Return the answers of a micro-batch, without columns that are padding in all of them."""
    part = {name: written[name][first:after] for name in (*_TENSORS, *_SOMETIMES) if name in written}
    prompts = int(part["prompt_mask"].sum(dim=1).max())
    answers = max(1, int(part["completion_mask"].sum(dim=1).max()))
    for name in ("prompt_ids", "prompt_mask"):
        part[name] = part[name][:, part[name].shape[1] - prompts :]
    for name in ("completion_ids", "completion_mask", "old_per_token_logps", "ref_per_token_logps"):
        if name in part:
            part[name] = part[name][:, :answers]
    return {**part, "num_items_in_batch": written.get("num_items_in_batch", torch.tensor(1)) * token_factor}
