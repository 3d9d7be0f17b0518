"""The card beside an exported model: what it is, how it was made, how it scored, how to load it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from engine.catalog.base_models import BASE_MODELS
from engine.catalog.metrics import Metric
from engine.catalog.objectives import Signal
from engine.deployment.base_reference import BaseReference, base_reference
from engine.deployment.loading_code import LOADER, PIPELINES, Kind, loading_code
from engine.deployment.parity import Parity
from engine.evaluation.markup import code_block, escape_markdown, inline_code
from engine.evaluation.measurement import load_measurement, write_text
from engine.evaluation.measures import known_metrics
from engine.evaluation.report_data import read_versions
from engine.evaluation.report_metrics import SURE, metric_row
from engine.planning.plan import Plan
from engine.recipe.schema import Recipe
from engine.recipe.sources import flatten, unflatten
from engine.runs.directory import RunDirectory
from engine.text import clean_line, human_count

_PROMPTS: dict[Signal, str] = {"text": "Once upon a time", "tags": "Ada Lovelace was born in London in 1815."}
"""What a model is asked in its card where nobody typed a sample prompt."""


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card says.

    Attributes:
        before: Measurement before training, as in `evaluation/before.json`; None when there is none.
        after: The same after training.
        parity: The merged model against base and adapter in the same number format; None for an adapter.
        quantization_gap: Of a quantised base: the same against the model that was trained and measured.
        versions: `{package: version}`.
        prompt: Prompt used in the loading examples.
        license: Licence of the base model where the catalogue knows it.
        tokenizer_class: The class of transformers that reads the written tokenizer right.
    """

    run_id: str
    plan: Plan
    base: BaseReference
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    parity: Parity | None = None
    quantization_gap: Parity | None = None
    versions: dict[str, str] = field(default_factory=dict)
    prompt: str = "Hello"
    license: str | None = None
    tokenizer_class: str = "AutoTokenizer"


def read_card_facts(
    run: RunDirectory, plan: Plan, parity: Parity | None, quantization_gap: Parity | None = None
) -> CardFacts:
    """Gather the facts of a run from its directory; the comparisons are those of `CardFacts`."""
    before = load_measurement(run.evaluation_folder / "before.json")
    after = load_measurement(run.evaluation_folder / "after.json")
    # Never a row of the data: cards are published, data may be private.
    typed = plan.recipe.evaluation.sample_prompts
    return CardFacts(
        run_id=run.run_id,
        plan=plan,
        base=base_reference(plan.model),
        before=before,
        after=after,
        parity=parity,
        quantization_gap=quantization_gap,
        versions=read_versions(run.environment_file),
        prompt=typed[0] if typed else _PROMPTS.get(plan.task.signal, "Hello!"),
        license=next((card.license for card in BASE_MODELS if card.name == plan.model.base), None),
    )


def write_model_card(folder: Path, facts: CardFacts, kind: Kind) -> None:
    """Write `README.md` into an export folder."""
    write_text(folder / "README.md", model_card(facts, kind))


def model_card(facts: CardFacts, kind: Kind) -> str:
    """Return the card in Markdown with YAML metadata in front."""
    return (
        "\n\n".join(
            part
            for part in (
                _metadata(facts, kind),
                _introduction(facts, kind),
                "## Load it\n\n" + code_block(_loading(facts, kind), "python"),
                _scores(facts),
                _training(facts),
                _recipe(facts.plan.recipe),
                _provenance(facts),
            )
            if part
        )
        + "\n"
    )


def _metadata(facts: CardFacts, kind: Kind) -> str:
    method = facts.plan.recipe.method.facts
    data: dict[str, Any] = {
        "library_name": "peft" if kind == "adapter" and method.learns != "bottleneck" else "transformers",
        "pipeline_tag": PIPELINES[facts.plan.task.head],
        "tags": ["ftwizard", facts.plan.recipe.objective, *(["lora"] if method.learns == "low-rank" else [])],
    }
    if facts.base.kind == "hub":
        data["base_model"] = facts.base.name
        data["base_model_relation"] = "adapter" if kind == "adapter" else "finetune"
    if facts.license:
        data["license"] = facts.license.lower()
    return f"---\n{yaml.safe_dump(data, sort_keys=False).strip()}\n---"


def _introduction(facts: CardFacts, kind: Kind) -> str:
    recipe = facts.plan.recipe
    what = "An adapter for" if kind == "adapter" else "A fine-tuned version of"
    title = escape_markdown(clean_line(recipe.name or f"{facts.base.name} {recipe.objective}"))
    lines = [
        f"# {title}",
        f"{what} {inline_code(facts.base.name)}{_at_revision(facts.base)}, made with "
        f"{recipe.method.facts.words} on {facts.plan.data.num_train:,} rows for {recipe.objective}.",
    ]
    if kind == "adapter" and recipe.method.facts.learns == "bottleneck":
        lines.append(
            f"The library peft and programs that build on it cannot load these adapters; {inline_code(LOADER)} here "
            "does, with torch, transformers and safetensors. They cannot be merged into the base model."
        )
    if recipe.method.facts.adds_tokens:
        lines.append(
            f"It puts {recipe.method.virtual_tokens} learned tokens in front of every text and changes no weight, so "
            "that it cannot be merged: programs load the base model with this adapter."
        )
    if facts.license:
        lines.append(f"The base model's licence is {escape_markdown(facts.license)}; it covers this model too.")
    else:
        lines.append("The base model's licence covers this model too; read it before you pass the model on.")
    return "\n\n".join(lines)


def _at_revision(base: BaseReference) -> str:
    return f" at revision {inline_code(base.revision)}" if base.revision else ""


def _loading(facts: CardFacts, kind: Kind) -> str:
    return loading_code(facts.plan, facts.base, kind, tokenizer_class=facts.tokenizer_class, prompt=facts.prompt)


def _scores(facts: CardFacts) -> str:
    before, after = (facts.before or {}).get("metrics", {}), (facts.after or {}).get("metrics", {})
    metrics = known_metrics({*before, *after})
    if not metrics:
        return ""
    rows = [_score_row(metric, facts.before or {}, facts.after or {}) for metric in metrics]
    measured, bits = facts.after or facts.before or {}, facts.plan.recipe.method.facts.bits
    parts = [
        "## Scores",
        f"Measured on {measured.get('num_rows', 0):,} held-out rows"
        + (f", answers on {measured['num_generated']:,} of them" if measured.get("num_generated") else "")
        + ", before and after training."
        + (
            f" The base model was held in {bits} bits, as in training; in another number format scores differ a little."
            if bits is not None
            else ""
        ),
        "\n".join(["| | before | after | 95 % interval | |", "|---|---:|---:|---:|---|", *rows]),
        SURE,
    ]
    return "\n\n".join(parts)


def _score_row(metric: Metric, before: dict[str, Any], after: dict[str, Any]) -> str:
    row = metric_row(metric, before, after)
    title = f"{metric.title} ({metric.better_words})" if metric.better_words else metric.title
    cells = (title, row["before_text"], row["after_text"], row["after_interval_text"], row["verdict"])
    return f"| {' | '.join(cells)} |"


def _training(facts: CardFacts) -> str:
    plan, data = facts.plan, facts.plan.data
    lines = [
        f"- Data: {data.num_rows:,} rows read, {data.num_train:,} for training, {data.num_held_out:,} held out; "
        f"sha256 {inline_code(data.sha256 or 'unknown')}",
        f"- Base model: {human_count(plan.model.num_params)} weights",
        f"- Steps: {(facts.after or {}).get('step', plan.steps.total_steps):,} of "
        f"{plan.recipe.training.effective_batch} rows each",
        "- Chat template and generation configuration are part of the tokenizer and model files here.",
    ]
    if facts.parity is not None:
        quantized = facts.quantization_gap is not None
        other = "the adapter on the base model that is not quantised" if quantized else "the model as it was trained"
        lines.append(f"- Largest logit difference to {other}: {_difference(facts.parity)}")
    if facts.quantization_gap is not None:
        held = f"{plan.recipe.method.facts.bits}-bit model"
        lines.append(f"- To the {held} that was trained and measured: {_difference(facts.quantization_gap)}")
    return "## Training\n\n" + "\n".join(lines)


def _difference(parity: Parity) -> str:
    return f"{parity.max_difference:.2g} on {parity.num_positions:,} tokens"


def _recipe(recipe: Recipe) -> str:
    text = yaml.safe_dump(public_recipe(recipe), sort_keys=False, allow_unicode=True)
    return "## Recipe\n\nEvery value as it was used; folders are shortened to their names.\n\n" + code_block(
        text, "yaml"
    )


def public_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe without unset values and without the folders of this machine."""
    flat = {path: value for path, value in flatten(recipe.model_dump(mode="json")).items() if value is not None}
    for path in ("model.base", "model.chat_template", "data.source", "data.held_out"):
        if path in flat:
            flat[path] = _without_folder(flat[path])
    flat.pop("delivery.output", None)
    return unflatten(flat)


def _without_folder(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_folder(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_folder(item) for key, item in value.items()}
    if isinstance(value, str) and (Path(value).is_absolute() or value.startswith(("~", ".")) or Path(value).exists()):
        return Path(value).name
    return value


def _provenance(facts: CardFacts) -> str:
    versions = ", ".join(f"{escape_markdown(name)} {escape_markdown(value)}" for name, value in facts.versions.items())
    run = f"Made by ftwizard, run {inline_code(facts.run_id)}."
    return f"## Made with\n\n{run}" + (f" {versions}." if versions else "")
