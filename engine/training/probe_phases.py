"""The phases of a probe: the run's own longest batches through what the worker runs.

The same loading, method, trainer, saving and evaluation; only the steps are few and chosen.
"""

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.data.rendering import renderer_of
from engine.evaluation.evaluate import measure
from engine.models.tokenizers import LoadedTokenizer, load_tokenizer
from engine.objectives.build import BuiltTrainer, make_trainer, objective_of
from engine.objectives.rewarding import make_rewarding
from engine.objectives.sequences import Segment
from engine.out_of_memory import give_back_memory
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe
from engine.runs.checkpoints import CheckpointStore
from engine.runs.directory import RunDirectory
from engine.runs.disk import PRIVATE_FILE_MODE, free_bytes, private_folder
from engine.runs.picture import PictureWriter
from engine.stages import load_learner
from engine.text import clean_line, human_bytes
from engine.training.batching import Batching
from engine.training.checkpoints import Progress, TrainingCheckpoints, learnt_tensors
from engine.training.device_memory import Meter
from engine.training.event_log import EventLog
from engine.training.interrupt import Interrupt
from engine.training.order import FixedOrder
from engine.training.probe_request import SMALL, Note, ProbeRequest
from engine.training.random_state import capture_random_state
from engine.training.small_models import small_learner

GENERATED_TOKENS = 32
"""Longest answer that the evaluation batch generates: the prompts fill the memory, and a probe is to be short."""
MAX_SAVED_BYTES = 4 * 2**30
"""Above this a checkpoint is not saved for trial: it would take longer than the rest of the probe."""
_DISK_SHARE = 0.25


class Notebook:
    """Writes the lines of a probe, each of them at once."""

    def __init__(self, path: Path, meter: Meter) -> None:
        self._meter = meter
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE_FILE_MODE)

    def write(self, **values: Any) -> None:
        """Append one line."""
        os.write(self._descriptor, Note(**values).model_dump_json(exclude_defaults=True).encode() + b"\n")

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Measure the peak of a block."""
        self.write(begun=name)
        self._meter.begin()
        yield
        peak = self._meter.peak()
        self.write(phase=name, tensor_bytes=peak.tensor_bytes, held_bytes=peak.held_bytes)


class ProbedRun:
    """The run's model, rows and trainer, as the worker would have them."""

    def __init__(self, request: ProbeRequest, loaded: LoadedTokenizer) -> None:
        self.request = request
        self.loaded = loaded
        self.recipe = probe_recipe(request)
        self.scratch = Path(request.scratch)
        self.batching = Batching(request.micro_batch, max(len(step) for step in request.steps))

    def trainer(self, model: Any, steps: list[list[list[int]]]) -> BuiltTrainer:
        """Return a trainer of these steps."""
        sequences = objective_of(self.recipe, self.request.plan.task).gathered(
            [
                [Segment(part.row_id, part.input_ids, part.labels, tuple(part.targets)) for part in sequence]
                for sequence in self.request.sequences
            ]
        )
        training = self.recipe.training.model_copy(update={"max_steps": len(steps)})
        built = make_trainer(
            self.recipe.model_copy(update={"training": training}),
            self.request.plan.task,
            self.request.plan.device,
            self.batching,
            sequences,
            model=model,
            tokenizer=self.loaded.tokenizer,
            folder=private_folder(self.scratch / "trainer"),
        )
        built.trainer.order = FixedOrder(steps)
        return built


def probe_recipe(request: ProbeRequest) -> Recipe:
    """Return the recipe of a probe: the run's, with an evaluation of one short batch."""
    recipe = request.plan.recipe
    evaluation = recipe.evaluation
    num_rows = max(1, len(request.held_out))
    shortened = {
        "max_rows": num_rows,
        "generate_rows": num_rows,
        "max_new_tokens": min(GENERATED_TOKENS, evaluation.max_new_tokens or GENERATED_TOKENS),
        "sample_prompts": None,
    }
    return recipe.model_copy(update={"evaluation": evaluation.model_copy(update=shortened), "name": "probe"})


def carry_out(request: ProbeRequest, meter: Meter, notebook: Notebook) -> None:
    """Measure every phase of a run, the small models first."""
    notebook.write(begun="context")
    # The first answer counts what others hold; the context of this process comes after it.
    free = meter.free_bytes() if request.plan.device.kind == "cuda" else None
    context = meter.open()
    notebook.write(context_bytes=context, free_bytes=free if free is not None else meter.free_bytes())
    probed = ProbedRun(request, load_tokenizer(Path(request.folder), request.plan.recipe))
    for layers in request.small_layers:
        _measure_small(probed, layers, notebook)
    with notebook.phase("loading"):
        model = load_learner(request.plan, probed.loaded)
    built = probed.trainer(model, request.steps)
    with notebook.phase("training"):
        built.trainer.train()
    built.trainer.model.zero_grad(set_to_none=True)
    with _optional(notebook, "saving"):
        _save_once(probed, built, notebook)
    # As in the run: optimizer states stay where they are while the model is measured.
    with _optional(notebook, "evaluation"), notebook.phase("evaluation"):
        _evaluate_once(probed, model)


def _measure_small(probed: ProbedRun, layers: int, notebook: Notebook) -> None:
    """Measure a small random model of the same kind; it only calibrates, so that its failure costs nothing else."""
    with _optional(notebook, f"{SMALL}{layers}"), notebook.phase(f"{SMALL}{layers}"):
        model = small_learner(Path(probed.request.folder), probed.request.plan, layers)
        probed.trainer(model, probed.request.steps[:1] * 3).trainer.train()
    give_back_memory()


@contextmanager
def _optional(notebook: Notebook, name: str) -> Iterator[None]:
    """Note why a part did not come to its end, and go on."""
    failure = ""
    try:
        yield
    except Exception as error:
        traceback.print_exception(error)
        failure = first_line(error)
    # Outside of the handler, whose traceback holds the tensors of what failed.
    if failure:
        give_back_memory()
        notebook.write(skipped=name, text=failure)


def _save_once(probed: ProbedRun, built: BuiltTrainer, notebook: Notebook) -> None:
    tensors = learnt_tensors(built.trainer.model).values()
    # The weights that learn, and two optimizer states of at most the same size.
    needed = 3 * sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    free = free_bytes(probed.scratch)
    if needed > MAX_SAVED_BYTES or (free is not None and needed > _DISK_SHARE * free):
        notebook.write(skipped="saving", text=f"a checkpoint of {human_bytes(needed)} is not saved for trial")
        return
    run = RunDirectory(private_folder(probed.scratch / "run"))
    events = EventLog(PictureWriter(run), Interrupt())
    store = CheckpointStore(private_folder(run.checkpoints_folder), "probe")
    checkpoints = TrainingCheckpoints(store, events, built.trainer)
    with notebook.phase("saving"):
        checkpoints.save(Progress(len(probed.request.steps), 0, 0.0, capture_random_state()))
    events.close()


def _evaluate_once(probed: ProbedRun, model: Any) -> None:
    recipe = probed.recipe
    if recipe.row_tokens is None or not probed.request.held_out:
        return
    tokenizer = probed.loaded.tokenizer
    renderer = renderer_of(probed.request.plan, tokenizer)
    rows, micro_batch = probed.request.held_out, probed.request.micro_batch
    rewarding = make_rewarding(recipe, model) if renderer.task.signal == "prompts" else None
    measure(
        model,
        tokenizer,
        renderer,
        rows,
        recipe,
        phase="before",
        step=0,
        micro_batch=micro_batch,
        rewarding=rewarding,
    )


def first_line(error: BaseException) -> str:
    """Return an error on one line that may be shown."""
    text = clean_line(str(error).strip().split("\n")[0], max_chars=300)
    return text if isinstance(error, ProblemError) else f"{type(error).__name__}: {text}"
