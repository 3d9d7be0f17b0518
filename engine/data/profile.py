"""The data profile with lengths measured by the tokenizer that will train."""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from engine.data.lengths import length_profile
from engine.data.pipeline import PreparedData, prepare
from engine.data.rendered import Rendered
from engine.data.rendering import Renderer
from engine.data.rows import Row
from engine.data.sources import HUB
from engine.models.hub_datasets import commits_of
from engine.models.tokenizers import load_tokenizer
from engine.planning.profiles import DataProfile, Finding, LengthProfile
from engine.recipe.problems import ProblemError
from engine.recipe.schema import Recipe

MEASURED_ROWS = 5000
"""Rows whose tokens are counted; of more rows that many are drawn, and the total is scaled up."""
UNCUT_LENGTH = 1 << 30


def renderer_for(recipe: Recipe, folder: str) -> tuple[Renderer, list[str]]:
    """Return the renderer of a recipe, and the choices made for its tokenizer.

    Args:
        recipe: `training.max_length` cuts, nothing does where it is not set.
        folder: Local folder of the model.
    """
    loaded = load_tokenizer(Path(folder), recipe)
    length = recipe.training.max_length or UNCUT_LENGTH
    return Renderer(loaded.tokenizer, length, recipe.data.system_prompt), loaded.choices


def profile_data(recipe: Recipe, *, folder: str | None = None) -> DataProfile:
    """Return the profile of a recipe's data.

    Args:
        recipe: A checked recipe.
        folder: Local folder of the model; without one lengths are estimated from characters.

    Raises:
        ProblemError: The data, the tokenizer or its chat template cannot be used.
    """
    prepared = _with_commits(prepare(recipe), recipe)
    if folder is None:
        return prepared.profile
    loaded = load_tokenizer(Path(folder), recipe)
    renderer = Renderer(loaded.tokenizer, UNCUT_LENGTH, recipe.data.system_prompt)
    train, refused = _measured(renderer, prepared.train_rows, recipe.training.seed)
    if not train:
        raise ProblemError(*renderer.render_rows(prepared.train_rows).problems())
    held_out, _ = _measured(renderer, prepared.held_out_rows, recipe.training.seed)
    num_train = len(prepared.train_rows)
    answers = [sequence.num_trained for sequence in train]
    held_longest = max((sequence.num_trained for sequence in held_out), default=0)
    chat = "messages" in prepared.train_rows[0]
    return prepared.profile.model_copy(
        update={
            "lengths": _lengths([len(sequence.input_ids) for sequence in train], num_train),
            "answer_lengths": _lengths(answers, num_train) if chat else None,
            "held_out_answer_longest": held_longest if chat else 0,
            "findings": [*prepared.profile.findings, *refused],
        }
    )


def _with_commits(prepared: PreparedData, recipe: Recipe) -> PreparedData:
    """Return the same with the commits of the hub data sets that were read, so that the plan can name them."""
    names = [*recipe.data.sources(), str(recipe.data.held_out or "")]
    commits = commits_of(names) if any(name.startswith(HUB) for name in names) else {}
    return replace(prepared, profile=prepared.profile.model_copy(update={"commits": commits}))


def _measured(renderer: Renderer, rows: Sequence[Row], seed: int) -> tuple[list[Rendered], list[Finding]]:
    drawn = rows if len(rows) <= MEASURED_ROWS else random.Random(f"measure {seed}").sample(rows, MEASURED_ROWS)
    rendered = renderer.render_rows(drawn)
    findings = [
        Finding(code="data.not_rendered", message=sentence, path="data.source", severity="warning")
        for sentence in rendered.sentences()
    ]
    return rendered.sequences, findings


def _lengths(lengths: list[int], num_rows: int) -> LengthProfile | None:
    sampled = num_rows > MEASURED_ROWS
    total = round(sum(lengths) * num_rows / MEASURED_ROWS) if sampled else None
    return length_profile(lengths, total=total)
