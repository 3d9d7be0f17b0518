"""A run's context around a tiny model, without the stages before training."""

from pathlib import Path

from peft import LoraConfig, get_peft_model
from transformers import PreTrainedModel, set_seed

from engine.data.rendering import Renderer
from engine.methods.apply import apply_method
from engine.recipe.schema import Recipe
from engine.runs.checkpoints import CheckpointStore
from engine.runs.control import ControlReader
from engine.runs.directory import RunDirectory
from engine.runs.picture import PictureWriter
from engine.training.batching import Batching
from engine.training.context import RunContext
from engine.training.event_log import EventLog
from engine.training.interrupt import Interrupt
from engine.training.requests import RequestDesk
from tests.engine.made_runs import make_run
from tests.engine.tiny_models import command_rows, text_rows, tiny_llama, tiny_tokenizer


def tiny_learner(recipe: Recipe, vocab_size: int) -> PreTrainedModel:
    """Return a tiny model with the recipe's method applied, the same one at each call."""
    model = tiny_llama(vocab_size)
    if recipe.method.facts.trains_base:
        return apply_method(model, recipe)
    set_seed(recipe.training.seed)
    settings = LoraConfig(
        r=recipe.method.rank,
        lora_alpha=recipe.method.alpha,
        lora_dropout=recipe.method.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, settings)


def made_context(
    folder: Path, recipe: Recipe, *, num_rows: int = 22, model: PreTrainedModel | None = None
) -> RunContext:
    """Return the context of a run in `folder`, made at the first call and resumed at the next."""
    run = RunDirectory(folder) if folder.exists() else make_run(folder, recipe)
    plan = run.read_plan()
    interrupt = Interrupt()
    events = EventLog(PictureWriter(run), interrupt)
    tokenizer = tiny_tokenizer()
    renderer = Renderer(tokenizer, recipe.row_tokens, task=plan.task)
    rows = text_rows(num_rows) if recipe.goal.plain_text else command_rows(num_rows)
    store = CheckpointStore(run.checkpoints_folder, run.run_id, recipe.training.keep_checkpoints)
    return RunContext(
        run=run,
        plan=plan,
        events=events,
        interrupt=interrupt,
        desk=RequestDesk(ControlReader(run), events),
        batching=Batching(plan.steps.micro_batch, plan.steps.accumulation),
        tokenizer=tokenizer,
        renderer=renderer,
        rendered=renderer.render_rows(rows),
        held_out_rows=rows[:4],
        checkpoint=store.newest_whole(),
        store=store,
        model=model or tiny_learner(recipe, len(tokenizer)),
    )
