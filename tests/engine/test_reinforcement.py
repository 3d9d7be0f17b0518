"""Learning from rewards: a toy reward rises, groups stay whole however a step is cut, resuming changes nothing."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from engine.data.rendering import Renderer
from engine.evaluation.evaluate import measure
from engine.objectives.drawing import Draw, Drawer, DrawSettings, TokenChooser
from engine.objectives.reference import Reference
from engine.objectives.rewarding import make_rewarding
from engine.training.interrupt import StopRequested
from engine.training.lookout import Lookout
from engine.training.order import StepOrder
from engine.training.run import train
from tests.engine.made_context import made_context, tiny_learner
from tests.engine.made_runs import events_of, loss_curve, made_plan, made_recipe
from tests.engine.tiny_models import command_rows, tiny_llama, tiny_tokenizer

TOY = "def reward(prompt, completion, answer):\n    return completion.count('e') / max(1, len(completion))\n"
FULL = {"name": "full", "rank": None, "alpha": None}


def toy_recipe(folder: Path, *, method=None, training=None, **reinforcement):
    folder.mkdir(exist_ok=True)
    (folder / "toy.py").write_text(TOY)
    section = {
        "algorithm": "grpo",
        "rewards": ["file"],
        "reward_file": str(folder / "toy.py"),
        "trust_reward_code": True,
        "num_generations": 4,
        "max_completion": 6,
        "beta": 0.02,
        "scale_rewards": "none" if reinforcement.get("algorithm") == "rloo" else "group",
    }
    return made_recipe(
        "model",
        "data",
        objective="reinforcement-learning",
        method=method or {},
        training={"effective_batch": 8, "micro_batch": 8, "max_steps": 3, "learning_rate": 5e-3, **(training or {})},
        evaluation={"metrics": ["reward", "kl", "completion_length"], "generate_rows": 3, "max_new_tokens": 6},
        reinforcement=section | reinforcement,
    )


def ready(folder: Path, recipe, *, num_rows: int = 22):
    context = made_context(folder, recipe, num_rows=num_rows)
    context.rewarding = make_rewarding(recipe, context.model)
    return context


def extras(context, name: str) -> list[float]:
    return [event["extra"][name] for event in events_of(context.run, "step.logged")]


def last_weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(max((folder / "checkpoints").glob("step-*")) / "weights.safetensors")


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_a_learnable_reward_rises(algorithm: str, tmp_path: Path):
    training = {"effective_batch": 32, "micro_batch": 32, "max_steps": 16, "learning_rate": 0.03}
    recipe = toy_recipe(
        tmp_path, method=FULL, training=training, algorithm=algorithm, num_generations=8, beta=0.0, temperature=1.0
    )
    context = ready(tmp_path / "run", recipe)
    train(context)
    rewards = extras(context, "reward")
    assert np.mean(rewards[-3:]) > 2 * np.mean(rewards[:3]) > 0
    # Tokens read and written are counted: prompts once for each answer, and the answers.
    steps = events_of(context.run, "step.logged")
    written = [round(event["extra"]["answer_tokens"] * 32) for event in steps]
    assert all(
        later["num_tokens"] - before["num_tokens"] > count
        for before, later, count in zip(steps, steps[1:], written[1:], strict=False)
    )


@pytest.mark.parametrize("token_mean", ["step", "answer", "limit"])
def test_a_step_is_the_same_however_it_is_cut(token_mean: str, tmp_path: Path):
    _same_however_cut(tmp_path, {"token_mean": token_mean})


def test_a_step_of_rloo_is_the_same_however_it_is_cut(tmp_path: Path):
    _same_however_cut(tmp_path, {"algorithm": "rloo"})


def _same_however_cut(tmp_path: Path, section: dict) -> None:
    found = []
    for micro_batch in (8, 2, 1):
        # Five prompts: two steps of two, and one of a single prompt at the end of the epoch.
        recipe = toy_recipe(tmp_path, training={"micro_batch": micro_batch}, **section)
        context = ready(tmp_path / f"by-{micro_batch}", recipe, num_rows=5)
        train(context)
        found.append((loss_curve(context.run), extras(context, "reward"), extras(context, "kl")))
    for other in found[1:]:
        assert list(other[0]) == [1, 2, 3]
        assert other[0] == pytest.approx(found[0][0], rel=2e-3, abs=1e-5)
        assert other[1] == pytest.approx(found[0][1], rel=1e-6)
        assert other[2] == pytest.approx(found[0][2], rel=2e-3, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "method", "section", "training"),
    [
        ("lora", {"dropout": 0.2}, {}, {"micro_batch": 2}),
        ("rloo with dropout", {"dropout": 0.5}, {"algorithm": "rloo"}, {"micro_batch": 4}),
        (
            "without a reference",
            {},
            {"beta": 0.0, "top_p": 0.9, "temperature": 0.7},
            {"activation_checkpointing": True},
        ),
    ],
)
def test_a_resumed_run_equals_the_straight_one(
    name: str, method, section, training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    recipe = toy_recipe(tmp_path, method=method, training={"max_steps": 4, **training}, **section)
    straight = ready(tmp_path / "straight", recipe)
    train(straight)
    micro_steps = 8 // recipe.training.micro_batch
    with monkeypatch.context() as patch:
        # In the middle of the third step: its answers are written, and some of them learnt from.
        _stop_in(patch, after=2 * micro_steps + max(1, micro_steps // 2))
        with pytest.raises(StopRequested):
            train(ready(tmp_path / "stopped", recipe))
    resumed = ready(tmp_path / "stopped", recipe)
    assert resumed.checkpoint is not None
    assert resumed.checkpoint.step in (2, 3)
    train(resumed)
    one, other = last_weights(tmp_path / "straight"), last_weights(tmp_path / "stopped")
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert loss_curve(resumed.run) == loss_curve(straight.run)
    newest = {event["step"]: event for event in events_of(resumed.run, "step.logged")}
    for event in events_of(straight.run, "step.logged"):
        assert newest[event["step"]]["extra"] == event["extra"]
        assert newest[event["step"]]["num_tokens"] == event["num_tokens"]


def test_dropout_is_not_taken_for_an_older_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clipped: list[float] = []
    from engine.objectives.reinforcement_learning import RlooTrainer

    original = RlooTrainer.step_extras

    def looking(self):
        clipped.extend(self._metrics["train"]["clip_ratio/region_mean"])
        return original(self)

    monkeypatch.setattr(RlooTrainer, "step_extras", looking)
    training = {"learning_rate": 0.05, "max_steps": 5}
    train(ready(tmp_path / "run", toy_recipe(tmp_path, method={"dropout": 0.8}, training=training, algorithm="rloo")))
    assert clipped == [0.0] * 5


def _stop_in(patch: pytest.MonkeyPatch, *, after: int) -> None:
    seen = 0
    original = Lookout.after_micro_step

    def counting(self: Lookout, loss: torch.Tensor) -> None:
        nonlocal seen
        original(self, loss)
        seen += 1
        if seen == after:
            self._interrupt.request("SIGTERM")

    patch.setattr(Lookout, "after_micro_step", counting)


def test_a_stop_while_answers_are_written_is_obeyed_at_the_next_token(tmp_path: Path):
    context = ready(tmp_path / "run", toy_recipe(tmp_path, max_completion=200, training={"max_length": 256}))
    looked = 0
    original = Drawer._draw_batch

    def asked_in_the_middle(self: Drawer, batch):
        look_up = self._look_up

        def counting() -> None:
            nonlocal looked
            looked += 1
            if looked == 3:
                context.interrupt.request("SIGTERM")
            look_up()

        self._look_up = counting
        return original(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Drawer, "_draw_batch", asked_in_the_middle)
        with pytest.raises(StopRequested):
            train(context)
    assert looked == 3
    assert not events_of(context.run, "step.logged")


def test_constant_rewards_are_told_once_with_a_way_out(tmp_path: Path):
    recipe = toy_recipe(
        tmp_path, training={"max_steps": 6}, rewards=["exact_answer"], reward_file=None, trust_reward_code=False
    )
    context = ready(tmp_path / "run", recipe)
    train(context)
    told = [
        event for event in events_of(context.run, "notice.raised") if event["code"] == "reinforcement.constant_reward"
    ]
    assert len(told) == 1
    assert "None of them is right" in told[0]["message"]
    assert extras(context, "solved") == [0.0] * 6
    assert extras(context, "no_difference") == [1.0] * 6
    rising = ready(tmp_path / "rising", toy_recipe(tmp_path, training={"max_steps": 6}))
    train(rising)
    assert not [event for event in events_of(rising.run, "notice.raised") if event["code"].startswith("reinforcement.")]


def test_a_reward_that_fails_stops_the_run_with_line_and_row(tmp_path: Path):
    from engine.recipe.problems import ProblemError

    recipe = toy_recipe(tmp_path)
    (tmp_path / "toy.py").write_text("def reward(prompt, completion, answer):\n    return 1 / 0\n")
    with pytest.raises(ProblemError, match=r"line 2, failed for an answer to made\.jsonl:\d+ \(ZeroDivisionError"):
        train(ready(tmp_path / "run", recipe))


# --- drawing ------------------------------------------------------------------------------------------------------


def test_tokens_are_drawn_as_often_as_they_are_likely():
    logits = torch.log(torch.tensor([[0.5, 0.0, 0.3, 0.2]]))
    chances = torch.linspace(0, 1, 1001)[:-1]
    counts = [0, 0, 0, 0]
    for chance in chances:
        chooser = TokenChooser(chance.reshape(1, 1), 3, temperature=1.0, top_p=1.0)
        counts[int(chooser(torch.zeros(1, 3, dtype=torch.long), logits).argmax())] += 1
    assert counts == pytest.approx([500, 0, 300, 200], abs=1)


def test_temperature_and_top_p_narrow_what_is_drawn():
    logits = torch.log(torch.tensor([[0.5, 0.1, 0.3, 0.1]]))
    ids = torch.zeros(1, 3, dtype=torch.long)

    def drawn(**settings) -> set[int]:
        chosen = [
            TokenChooser(torch.tensor([[chance]]), 3, **settings)(ids, logits) for chance in np.linspace(0, 0.999, 200)
        ]
        return {int(each.argmax()) for each in chosen}

    assert drawn(temperature=1.0, top_p=1.0) == {0, 1, 2, 3}
    assert drawn(temperature=1.0, top_p=0.75) == {0, 2}
    assert drawn(temperature=0.05, top_p=1.0) == {0}


def test_what_is_drawn_depends_on_its_key_alone():
    model = tiny_llama(64).eval()
    settings = DrawSettings(3, 1.0, 1.0, 5, (2,), 0, 10_000, 1.0, torch.float32)
    wanted = [Draw(place, [5, 6, 7, 8][: 2 + place % 3], (4, place // 2, place % 2)) for place in range(6)]
    torch.manual_seed(1)
    with torch.no_grad():
        together = Drawer(model, settings, look_up=lambda: None).draw(wanted)
        torch.manual_seed(2)
        alone = [Drawer(model, settings, look_up=lambda: None).draw([Draw(0, w.prompt_ids, w.key)])[0] for w in wanted]
        other = Drawer(model, settings, look_up=lambda: None).draw(
            [Draw(w.place, w.prompt_ids, (5, *w.key[1:])) for w in wanted]
        )
    assert together == alone
    assert together != other
    assert together[0] != together[1]
    assert all(2 not in answer[:-1] and 1 <= len(answer) <= 5 for answer in together)


# --- the model of the start ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_reference_is_the_model_of_the_start(method: str):
    recipe = made_recipe("m", "d", method={"name": method} if method == "lora" else FULL)
    model = tiny_learner(recipe, 64).eval()
    ids = torch.tensor([[5, 6, 7]])
    reference = Reference(model)
    with torch.no_grad():
        start = model(input_ids=ids).logits
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
        learnt = model(input_ids=ids).logits
        assert not torch.allclose(start, learnt)
        with reference.in_place():
            assert torch.equal(model(input_ids=ids).logits, start)
        assert torch.equal(model(input_ids=ids).logits, learnt)
        with pytest.raises(RuntimeError, match="leave"), reference.in_place():
            raise RuntimeError("leave")
        assert torch.equal(model(input_ids=ids).logits, learnt)


# --- prompts ------------------------------------------------------------------------------------------------------


def test_prompts_are_what_the_model_is_asked_and_the_answer_goes_to_the_rewards():
    plan = made_plan(made_recipe("m", "d", objective="reinforcement-learning"))
    tokenizer = tiny_tokenizer()
    rows = command_rows(2)
    chat, prompts = Renderer(tokenizer, 64), Renderer(tokenizer, 64, task=plan.task)
    as_prompt = {"id": rows[1]["id"], "prompt": rows[1]["messages"][:-1], "answer": "on(green_lamp)"}
    for row in (rows[0], as_prompt):
        (sequence,) = prompts.render_rows([row]).sequences
        told = json.loads(bytes(sequence.targets))
        assert told["prompt"] == row.get("prompt", row.get("messages", [])[:1])
        assert tokenizer.decode(sequence.input_ids).endswith("<|im_start|>assistant\n")
    (sequence,) = prompts.render_rows([rows[0]]).sequences
    assert sequence.input_ids == chat.prompt_ids(rows[0])
    assert json.loads(bytes(sequence.targets))["answer"] == rows[0]["messages"][-1]["content"]


def test_a_prompt_that_leaves_no_room_is_left_out_and_counted():
    plan = made_plan(made_recipe("m", "d", objective="reinforcement-learning"))
    rows = command_rows(3)
    rows[1]["messages"][0]["content"] += " please" * 60
    rendered = Renderer(tiny_tokenizer(), 40, task=plan.task).render_rows(rows)
    assert [each.id for each in rendered.sequences] == ["made.jsonl:1", "made.jsonl:3"]
    assert rendered.dropped.counts == {"prompt_too_long": 1}


def test_a_step_reads_its_prompts_once_for_each_answer():
    order = StepOrder([5, 9, 7, 6, 8], effective_batch=8, micro_batch=3, seed=1, repeats=4)
    assert order.steps_per_epoch == 3
    steps = [order.rows_of_step(step) for step in range(3)]
    assert [len(rows) for rows in steps] == [8, 8, 4]
    assert all(rows[at : at + 4] == [rows[at]] * 4 for rows in steps for at in range(0, len(rows), 4))
    assert sorted({row for rows in steps for row in rows}) == [0, 1, 2, 3, 4]
    assert len(order) == sum(len(order.micro_batches(step)) for step in range(3)) == 8
    assert [len(rows) for rows in order.micro_batches(2)] == [3, 1]
    with pytest.raises(ValueError, match="do not divide"):
        StepOrder([5], effective_batch=6, micro_batch=2, seed=1, repeats=4)


# --- evaluation ---------------------------------------------------------------------------------------------------


def test_an_evaluation_measures_reward_and_distance_and_shows_what_answers_earned(tmp_path: Path):
    recipe = toy_recipe(tmp_path, method=FULL)
    context = ready(tmp_path / "run", recipe)
    told: list[tuple[str, dict]] = []

    def look(phase: str):
        return measure(
            context.model, context.tokenizer, context.renderer, context.held_out_rows, recipe, phase=phase, step=0,
            emit=lambda event, **payload: told.append((event, payload)), rewarding=context.rewarding,
        )  # fmt: skip

    before = look("before")
    assert before.metrics["kl"] == pytest.approx(0, abs=1e-9)
    assert before.num_generated == 3
    assert 1 <= before.metrics["completion_length"] <= 6
    rewards = [answer["reward"] for answer in before.answers]
    assert before.metrics["reward"] == pytest.approx(np.mean(rewards))
    assert [sample.reward for sample in before.samples] == rewards
    assert before.samples[0].expected == context.held_out_rows[0]["messages"][-1]["content"]
    (samples,) = [payload for event, payload in told if event == "samples.generated"]
    assert samples["samples"][0]["reward"] == rewards[0]
    with torch.no_grad():
        for parameter in context.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    assert look("after").metrics["kl"] > 0.01


def test_without_a_copy_of_the_start_no_distance_is_claimed(tmp_path: Path):
    recipe = toy_recipe(tmp_path, method=FULL, beta=0.0)
    context = ready(tmp_path / "run", recipe)
    found = measure(
        context.model, context.tokenizer, context.renderer, context.held_out_rows, recipe, phase="before", step=0,
        rewarding=context.rewarding,
    )  # fmt: skip
    assert "kl" not in found.metrics
    assert any("is not measured" in remark for remark in found.remarks)
