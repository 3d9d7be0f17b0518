"""Measure a model on the rows of a file, by the examiners of a run; what was measured before is kept."""

import datetime
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.catalog.objectives import Objective
from engine.catalog.tasks import Task
from engine.data.bytes_in import ReadingStoppedError
from engine.data.progress import WorkWatch
from engine.data.rows import Row, last_answer
from engine.evaluation.apart import kept
from engine.evaluation.apart.given_rows import GivenRows, choose_metrics, choose_objective, match_labels, read_given
from engine.evaluation.apart.learnt import learnt_remark
from engine.evaluation.apart.subject import Subject, find_subject, vocabulary_hash
from engine.evaluation.apart.table import metric_table
from engine.evaluation.apart.wish import Wish, data_section, recipe_of
from engine.hardware.probe import read_hardware
from engine.planning.derive import choose_device
from engine.recipe.problems import Problem, ProblemError
from engine.recipe.schema import Recipe
from engine.runs.events import numbers_to_words
from engine.runs.home import home_folders
from engine.text import clean_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from engine.evaluation.measurement import Measurement

MOST_NEW_TOKENS = 256
_PAIRS = "Answers are rewarded by the mean log-probability of their tokens: there is no model to hold this one against."


def measure_apart(wish: Wish, watch: WorkWatch) -> dict[str, Any]:
    """Return the measurement of a model on the rows of a file, as it is kept, with `kept` and `file` beside it.

    Raises:
        ProblemError: No such model, data that cannot be read or compared with, a metric that does not fit, no memory.
        ReadingStoppedError: The watch asked for a stop.
    """
    watch.at("Looking at the model", 0, 0)
    subject = find_subject(wish.model)
    data = data_section(wish, subject)
    chosen = choose_objective(subject, data, wish.objective)
    metrics = choose_metrics(chosen.objective, subject.head, wish.metrics)
    recipe = recipe_of(wish, subject, chosen.objective, data, metrics)
    given = read_given(recipe, wish.read_rows, watch)
    rows, task, remarks = _task(subject, chosen.objective, given)
    settings = {
        "metrics": metrics,
        "max_rows": wish.read_rows,
        "generate_rows": wish.answered_rows,
        "max_length": recipe.training.max_length,
        "system_prompt": recipe.data.system_prompt,
        "prefix": task.prefix,
        "device": _choose_device(),
    }
    key = kept.key_of(subject.sha256, given.sha256, asdict(task), recipe.objective, settings, wish.max_rows)
    path = kept.file_of(home_folders().cache, key)
    # Of this model's run: the same files may have been measured as nobody's.
    learnt = learnt_remark(subject, rows)
    known = None if wish.again else kept.load(path)
    if known is not None:
        kept.touch(path)
        about = {"model": _about(subject), "remarks": [*learnt, *known["remarks"]]}
        return {**known, **about, "kept": True, "file": str(path)}
    measurement = _measured(subject, recipe, task, rows, watch)
    remarks = [*given.remarks, *remarks, *([_PAIRS] if task.signal == "preferences" else []), *measurement.remarks]
    about_data = {"source": data.sources(), "sha256": given.sha256, "num_found": given.num_found}
    content: dict[str, Any] = {
        **_taken(measurement),
        "model": _about(subject),
        "data": {**about_data, "num_measured": len(rows)},
        "objective": chosen.objective.name,
        "why": chosen.why,
        "settings": settings,
        "remarks": remarks,
    }
    kept.keep(path, content)
    return {**content, "remarks": [*learnt, *remarks], "kept": False, "file": str(path)}


def _taken(measurement: "Measurement") -> dict[str, Any]:
    """Return a measurement as it is kept, with the table of its numbers."""
    whole = measurement.to_json()
    content: dict[str, Any] = numbers_to_words(
        {
            "version": kept.KEPT_VERSION,
            "measured": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "metrics": metric_table(whole),
            "measurement": whole,
        }
    )
    return content


def _about(subject: Subject) -> dict[str, Any]:
    return {
        "name": subject.name,
        "reference": subject.reference,
        "run": subject.run.run_id if subject.run else None,
        "sha256": subject.sha256,
        "vocabulary": vocabulary_hash(filter(None, (subject.adapter, subject.folder))),
        "adapter": subject.adapter is not None,
    }


def _task(subject: Subject, objective: Objective, given: GivenRows) -> tuple[list[Row], Task, list[str]]:
    """Return the rows that can be judged, what the model is asked for, and what was left out."""
    if not subject.labels:
        prefix = subject.prefix if "text_to_text.prefix" in objective.settings else ""
        return given.rows, Task(objective.signal, subject.head, prefix=prefix), []
    rows, labels, remarks = match_labels(subject, given)
    several = any("labels" in row for row in rows)
    if several != subject.several and objective.signal == "labels":
        has, wants = ("several labels", "one") if several else ("one label", "any number")
        message = f"The rows have {has} each, and the model gives {wants} to a text."
        raise ProblemError(Problem("eval.labels_unfit", message, "Take data that is labelled as the model's was."))
    return rows, Task(objective.signal, subject.head, labels, subject.several), remarks


def _choose_device() -> str:
    """Make the device with the most free memory the only one that is seen, and return its kind."""
    device, _ = choose_device(read_hardware(patient=True))
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    os.environ["CUDA_VISIBLE_DEVICES"] = "" if device.kind == "cpu" else device.uuid or str(device.index)
    return device.kind


def _measured(subject: Subject, recipe: Recipe, task: Task, rows: list[Row], watch: WorkWatch) -> "Measurement":
    from engine.out_of_memory import give_back_memory, is_out_of_memory

    try:
        return _measure(subject, recipe, task, rows, watch)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
    give_back_memory()
    message = f"The model {clean_line(subject.name, max_chars=120)} does not fit into the free memory."
    raise ProblemError(Problem("eval.out_of_memory", message, "Free memory, or measure it on a larger machine."))


def _measure(subject: Subject, recipe: Recipe, task: Task, rows: list[Row], watch: WorkWatch) -> "Measurement":
    import torch

    from engine.data.rendering import Renderer
    from engine.evaluation.evaluate import EvaluationInterrupted, measure

    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    precision = "bfloat16" if device != "cpu" and torch.cuda.is_bf16_supported() else "float32"
    recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"precision": precision})})
    watch.at("Loading the model", 0, 0)
    model, tokenizer = _loaded(subject, recipe, task, device)
    limit = _longest_answer(rows[: recipe.evaluation.generate_rows], tokenizer)
    evaluation = recipe.evaluation.model_copy(update={"max_new_tokens": limit})
    recipe = recipe.model_copy(update={"evaluation": evaluation})
    length = recipe.training.max_length or 1
    renderer = Renderer(tokenizer, length, recipe.data.system_prompt, task)
    rendered = renderer.render_rows(rows)
    if problems := rendered.problems():
        raise ProblemError(*problems)

    def emit(event_type: str, **payload: Any) -> None:
        if event_type == "evaluation.progressed":
            watch.at("Measuring", payload["done"], payload["total"])

    try:
        return measure(
            model.eval(),
            tokenizer,
            renderer,
            rows,
            recipe,
            phase="apart",
            step=0,
            emit=emit,
            should_stop=lambda: watch.should_stop is not None and watch.should_stop(),
        )
    except EvaluationInterrupted as error:
        raise ReadingStoppedError from error


def _loaded(
    subject: Subject, recipe: Recipe, task: Task, device: str
) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    import torch
    from transformers import set_seed

    from engine.deployment.adapter import with_adapter
    from engine.models.loading import load_model
    from engine.models.tokenizers import faithful_tokenizer, load_tokenizer

    # The base of an adapter that brings a head has none of its own: what stands there until then is random.
    set_seed(recipe.training.seed)
    model = load_model(recipe, device, bits=None, task=task)
    own = subject.adapter is not None and (subject.adapter / "tokenizer_config.json").is_file()
    if own and subject.adapter is not None:
        tokenizer = faithful_tokenizer(subject.adapter, [], trust=subject.trust)
    else:
        tokenizer = load_tokenizer(subject.folder, recipe).tokenizer
    if task.head == "sequence-classification" and tokenizer.pad_token_id is not None:
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    if subject.adapter is None:
        return model, tokenizer
    adapted: Any = with_adapter(model, tokenizer, Path(subject.adapter)).to(torch.device(device))
    return adapted, tokenizer


def _longest_answer(rows: list[Row], tokenizer: "PreTrainedTokenizerBase") -> int:
    """Return how long an answer may become: the longest expected one and a tenth."""
    answers = [last_answer(row) for row in rows]
    longest = max((len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in answers if text), default=0)
    return min(MOST_NEW_TOKENS, int(longest * 1.1) + 4) if longest else MOST_NEW_TOKENS
