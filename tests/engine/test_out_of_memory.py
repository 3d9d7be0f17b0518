"""Memory that runs out in every stage of a run: what is done about it, what is lost, and what is said."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import engine.evaluation.metrics.exact_match
import engine.evaluation.metrics.perplexity
import engine.evaluation.metrics.token_accuracy  # noqa: F401 - five seconds of imports, once instead of in each fork
import engine.worker
from engine.data.rendering import Renderer
from engine.evaluation.generation import Answerer
from engine.evaluation.scoring import TokenScorer
from engine.models.tokenizers import load_tokenizer
from engine.out_of_memory import is_out_of_memory
from engine.recipe.problems import Problem, ProblemError
from engine.runs.directory import RunDirectory
from engine.training import checkpoints
from engine.training.order import StepOrder
from engine.training.trainer import RunTrainer
from tests.engine.forked import carry
from tests.engine.made_runs import events_of, loss_curve, made_recipe, make_run, write_rows
from tests.engine.tiny_models import command_rows

STEPS = 8
STARTS_OVER = 99
CUDA = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, tiny_model_folder: Path):
    return made_recipe(
        tiny_model_folder,
        write_rows(tmp_path_factory.mktemp("data") / "commands.jsonl", command_rows(48)),
        training={"max_steps": STEPS, "checkpoint_every": 3},
        evaluation={"generate_rows": 1, "max_new_tokens": 2},
    )


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory, recipe) -> RunDirectory:
    """Return a run that never lacked memory."""
    run = make_run(tmp_path_factory.mktemp("straight") / "run", recipe)
    assert carry(run, without_evaluation) == 0
    return run


def without_evaluation() -> None:
    import engine.stages

    engine.stages.evaluate = lambda *_: None


def carry_to_the_end(run: RunDirectory, inject: Callable[[], None]) -> tuple[int, int]:
    """Carry a run through its fresh processes, each of them forked; return the exit code and their number."""
    for attempt in range(1, 9):

        def planted(attempt: int = attempt) -> None:
            begin = engine.worker.begin_attempt
            engine.worker.begin_attempt = lambda run, restarted: begin(run, restarted=attempt > 1)
            engine.worker.restart_process = lambda *_: os._exit(STARTS_OVER)
            inject()

        code = carry(run, planted)
        if code != STARTS_OVER:
            return code, attempt
    raise AssertionError("the run starts over and over")


def fails(owner: type, name: str, error: BaseException, when: Callable[..., bool]) -> Callable[[], None]:
    """Return a fault: the method raises whenever the condition holds for its arguments."""

    def inject() -> None:
        without_evaluation()
        original = getattr(owner, name)

        def failing(self, *arguments, **keywords):
            if when(self, *arguments):
                raise error
            return original(self, *arguments, **keywords)

        setattr(owner, name, failing)

    return inject


def too_many_rows(self, model, inputs, *_) -> bool:
    return self.state.global_step == 4 and len(inputs["input_ids"]) > 2


def test_a_lack_of_memory_in_a_step_costs_no_step_and_keeps_the_curve(tmp_path: Path, recipe, straight):
    error = RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
    run = make_run(tmp_path / "run", recipe)
    assert carry_to_the_end(run, fails(RunTrainer, "compute_loss", error, too_many_rows)) == (0, 2)
    assert loss_curve(run) == pytest.approx(loss_curve(straight), rel=1e-4)
    assert len(events_of(run, "step.logged")) == STEPS
    second = events_of(run, "training.started")[1]
    assert (second["micro_batch"], second["accumulation"], second["start_step"]) == (2, 2, 4)
    [notice] = [event for event in events_of(run, "notice.raised") if event["code"] == "training.out_of_memory"]
    assert "Out of memory at step 5 with 4 rows at a time." in notice["message"]
    assert "goes on from step 4 (no step is lost) with 2 rows at a time" in notice["message"]


def test_a_lack_of_memory_in_backward_is_one_of_its_step(tmp_path: Path, recipe, straight):

    def inject() -> None:
        without_evaluation()
        import accelerate

        original = accelerate.Accelerator.backward
        calls = []

        def failing(self, loss, **keywords):
            calls.append(loss)
            if len(calls) == 6 and not marker.exists():
                marker.touch()
                raise CUDA
            return original(self, loss, **keywords)

        accelerate.Accelerator.backward = failing

    marker = tmp_path / "failed"
    # Checks before the first step go backward too.
    unchecked = recipe.model_copy(update={"training": recipe.training.model_copy(update={"preflight": "off"})})
    run = make_run(tmp_path / "run", unchecked)
    assert carry_to_the_end(run, inject) == (0, 2)
    assert loss_curve(run) == pytest.approx(loss_curve(straight), rel=1e-4)
    assert events_of(run, "training.started")[1]["start_step"] == 5


def test_a_lack_of_memory_inside_the_optimizer_goes_back_to_what_is_whole(tmp_path: Path, recipe, straight):

    def inject() -> None:
        without_evaluation()
        original = torch.optim.AdamW.step

        def failing(self, *arguments, **keywords):
            steps = [int(state["step"]) for state in self.state.values()]
            marker = tmp_path / "failed"
            if steps and steps[0] == 4 and not marker.exists():
                marker.touch()
                # Half of the weights have moved when the memory runs out.
                first = next(p for group in self.param_groups for p in group["params"])
                first.data.add_(1.0)
                raise CUDA
            return original(self, *arguments, **keywords)

        torch.optim.AdamW.step = failing

    run = make_run(tmp_path / "run", recipe)
    assert carry_to_the_end(run, inject) == (0, 2)
    assert loss_curve(run) == pytest.approx(loss_curve(straight), rel=1e-4)
    assert events_of(run, "training.started")[1]["start_step"] == 3
    message = next(e["message"] for e in events_of(run, "notice.raised") if e["code"] == "training.out_of_memory")
    assert "in the optimizer at step 5" in message
    assert "from step 3 (1 step is done again)" in message


def test_optimizer_states_that_never_fit_end_the_run_after_one_more_try(tmp_path: Path, recipe):
    run = make_run(tmp_path / "run", recipe)
    code, attempts = carry_to_the_end(run, fails(torch.optim.AdamW, "step", CUDA, lambda *_: True))
    assert (code, attempts) == (1, 2)
    assert "from the beginning" in events_of(run, "notice.raised")[-1]["message"]
    failure = events_of(run, "worker.failed")[-1]
    assert failure["code"] == "training.out_of_memory"
    assert "twice in the optimizer at step 1" in failure["message"]
    assert "8-bit" in failure["fix"]


def test_memory_that_is_always_short_ends_with_the_one_row_that_does_not_fit(tmp_path: Path, recipe):
    run = make_run(tmp_path / "run", recipe)
    assert carry_to_the_end(run, fails(RunTrainer, "compute_loss", CUDA, lambda *_: True)) == (1, 3)
    started = events_of(run, "training.started")
    assert [(e["micro_batch"], e["accumulation"]) for e in started] == [(4, 1), (2, 2), (1, 4)]
    failure = events_of(run, "worker.failed")[-1]
    sequences, order = sequences_of(run)
    longest = sequences[order.rows_of_step(0)[0]]
    assert f"at step 1 with one row at a time, reading {longest.id}." in failure["message"]
    assert json.loads(run.exit_file.read_text())["exit_code"] == 1


def test_one_row_that_never_fits_is_named_and_not_its_neighbours(tmp_path: Path, recipe, straight):
    sequences, order = sequences_of(straight)
    # Neither the longest of its step, nor in the first step.
    bad = sequences[order.rows_of_step(5)[2]]

    def holds_it(self, model, inputs, *_) -> bool:
        return any(row[: len(bad.input_ids)] == list(bad.input_ids) for row in inputs["input_ids"].tolist())

    run = make_run(tmp_path / "run", recipe)
    assert carry_to_the_end(run, fails(RunTrainer, "compute_loss", CUDA, holds_it)) == (1, 3)
    failure = events_of(run, "worker.failed")[-1]
    assert f"at step 6 with one row at a time, reading {bad.id}." in failure["message"]
    assert failure["fix"]
    assert max(loss_curve(run)) == 5


def sequences_of(run: RunDirectory):
    recipe = run.read_plan().recipe
    rows = [json.loads(line) for line in run.train_file.read_text().splitlines()]
    tokenizer = load_tokenizer(Path(recipe.model.base), recipe).tokenizer
    sequences = Renderer(tokenizer, recipe.training.max_length).render_rows(rows).sequences
    lengths = [len(sequence.input_ids) for sequence in sequences]
    return sequences, StepOrder(lengths, effective_batch=4, micro_batch=1, seed=recipe.training.seed)


def test_the_same_rows_twice_end_the_run_before_every_half_was_tried(tmp_path: Path, tiny_model_folder: Path):
    # 9 rows for training: the third step of the epoch has one row, however many are read at a time.
    data = write_rows(tmp_path / "few.jsonl", command_rows(10))
    recipe = made_recipe(tiny_model_folder, data, training={"max_steps": 4})
    run = make_run(tmp_path / "run", recipe)
    alone = fails(RunTrainer, "compute_loss", CUDA, lambda self, model, inputs, *_: len(inputs["input_ids"]) == 1)
    assert carry_to_the_end(run, alone) == (1, 2)
    message = events_of(run, "worker.failed")[-1]["message"]
    assert "at step 3 twice with the same rows, reading few.jsonl:" in message


def test_a_checkpoint_that_memory_refuses_is_told_and_training_goes_on(tmp_path: Path, recipe, straight):

    def inject() -> None:
        without_evaluation()
        original = checkpoints.save_learnt_weights

        def failing(model, path):
            calls.append(path)
            if len(calls) == 1:
                raise MemoryError
            original(model, path)

        calls: list[Path] = []
        checkpoints.save_learnt_weights = failing

    run = make_run(tmp_path / "run", recipe)
    assert carry_to_the_end(run, inject)[0] == 0
    assert loss_curve(run) == loss_curve(straight)
    notice = next(e for e in events_of(run, "notice.raised") if e["code"] == "checkpoint.out_of_memory")
    assert "the checkpoint of step 3" in notice["message"]
    assert notice["message"].endswith("Training goes on.")


def test_what_cannot_be_saved_before_starting_over_is_done_again(tmp_path: Path, recipe, straight):

    def inject() -> None:
        fails(RunTrainer, "compute_loss", CUDA, too_many_rows)()
        original = checkpoints.save_learnt_weights

        def failing(model, path):
            calls.append(path)
            if len(calls) == 2:
                raise MemoryError
            original(model, path)

        calls: list[Path] = []
        checkpoints.save_learnt_weights = failing

    run = make_run(tmp_path / "run", recipe)
    assert carry_to_the_end(run, inject) == (0, 2)
    assert loss_curve(run) == pytest.approx(loss_curve(straight), rel=1e-4)
    messages = [event["message"] for event in events_of(run, "notice.raised")]
    assert "The next attempt starts from the checkpoint before it." in messages[0]
    assert "goes on from step 3 (1 step is done again)" in messages[1]


def test_an_evaluation_takes_smaller_batches_in_the_same_process(tmp_path: Path, recipe):
    def inject() -> None:
        score, answer = TokenScorer.score, Answerer._answer_batch

        def limited_score(self, rows):
            if len(rows) > 1:
                raise CUDA
            return score(self, rows)

        def limited_answer(self, batch):
            if len(batch) > 1:
                raise CUDA
            return answer(self, batch)

        TokenScorer.score, Answerer._answer_batch = limited_score, limited_answer

    recipe = recipe.model_copy(
        update={"evaluation": recipe.evaluation.model_copy(update={"metrics": ["perplexity", "exact_match"]})}
    )
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"evaluate_every": 4})})
    whole, cut = make_run(tmp_path / "whole", recipe), make_run(tmp_path / "cut", recipe)
    assert carry(whole) == 0
    assert carry_to_the_end(cut, inject) == (0, 1)
    expected, found = (events_of(run, "evaluation.completed") for run in (whole, cut))
    assert [event["phase"] for event in found] == ["before", "during", "after"]
    for before, after in zip(expected, found, strict=True):
        assert after["metrics"] == pytest.approx(before["metrics"], rel=1e-5)
    assert loss_curve(cut) == loss_curve(whole)


def test_an_evaluation_that_never_fits_is_left_out_and_the_run_goes_on(tmp_path: Path, recipe):
    def inject() -> None:
        def refused(*_: object) -> None:
            raise CUDA

        TokenScorer.score = Answerer._answer_batch = refused

    run = make_run(tmp_path / "run", recipe)
    assert carry_to_the_end(run, inject) == (0, 1)
    assert max(loss_curve(run)) == STEPS
    assert [e["metrics"] for e in events_of(run, "evaluation.completed")] == [{}, {}]
    messages = " ".join(event["message"] for event in events_of(run, "notice.raised"))
    assert "not enough memory for the loss" in messages
    assert "not enough memory for generated answers" in messages
    assert json.loads(run.report_json_file.read_text())["headline"]["direction"] == "unknown"


@pytest.mark.parametrize(
    ("error", "lack"),
    [
        (CUDA, True),
        (RuntimeError("CUDA error: out of memory"), True),
        (torch.AcceleratorError("CUDA error: cudaErrorMemoryAllocation"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (MemoryError(), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("out of memory"), False),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_a_lack_of_memory_is_told_from_other_errors(error, lack):
    assert is_out_of_memory(error) is lack
    outer = RuntimeError("the backend failed")
    outer.__cause__ = error
    assert is_out_of_memory(outer) is lack
    told = ProblemError(Problem("model.unreadable", "The model cannot be read."))
    told.__cause__ = error
    assert not is_out_of_memory(told)
