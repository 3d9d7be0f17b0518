"""How many rows an evaluation takes at once: never more than training had memory for."""

import itertools

import pytest

from engine.catalog.base_models import BASE_MODELS
from engine.planning.evaluation_cut import MAX_ROWS, answered_rows, cached_share
from engine.planning.memory_phases import EVALUATION_CHUNK_BYTES, highest, phase_moments, size_of
from engine.planning.memory_setup import Setup

SHARES = (0.125, 0.5, 1.0, 1.7, 3.5, 4.0)
LOGITS_BYTES = 3 * EVALUATION_CHUNK_BYTES


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("new_tokens", [1, 12, 256])
def test_reading_and_cache_both_stay_within_a_micro_batch(share, new_tokens):
    for tokens, prompt in itertools.product((64, 500, 2048, 8192), (1, 17, 333, 2047, 9000)):
        rows = answered_rows(tokens, prompt, new_tokens, share)
        assert 1 <= rows <= MAX_ROWS
        if rows > 1:
            assert rows * (prompt + new_tokens) <= share * tokens
            assert rows * prompt <= tokens + rows


def test_prompts_as_long_as_training_rows_are_answered_as_many_at_a_time():
    assert answered_rows(4 * 2048, 2048, 256, 3.5) == 4


def test_a_model_without_heads_keeps_as_much_as_it_reads():
    assert cached_share(hidden=64, kv_heads=0, head_dim=0, activation_checkpointing=True) == 1.0


DECODERS = [model.profile for model in BASE_MODELS if model.kind == "decoder"]


@pytest.mark.parametrize("base", DECODERS, ids=lambda profile: profile.base)
def test_evaluation_fits_wherever_training_does(base):
    for method, checkpointing, rows, length, device in itertools.product(
        ("full", "lora", "qlora"), (False, True), (1, 4, 16), (256, 2048), ("cuda", "cpu")
    ):
        setup = Setup(device, method, "bfloat16", rows, length, activation_checkpointing=checkpointing, generate=256)
        moments = phase_moments(base, setup)
        training, evaluation = (size_of(highest(moments[phase])) for phase in ("training", "evaluation"))
        if rows == 1 and base.num_kv_heads == base.num_heads:
            continue  # One row cannot be cut, and keys for every head can outweigh a checkpointed step.
        # A piece of the logits has its own size, however little training needs.
        assert evaluation <= training + LOGITS_BYTES, setup
