"""After training: an evaluation batch, a checkpoint and the export, on hollow tensors."""

from collections.abc import Callable

import torch
from peft import PeftModel
from transformers import DynamicCache, EncoderDecoderCache

from engine.deployment.adapter import merge
from engine.deployment.parity import MAX_PROMPT_TOKENS, prompt_logits
from engine.deployment.weights import narrower, store_as, stored_dtype
from engine.evaluation.generation import Answerer, context_length, generation_share
from engine.evaluation.isolation import undisturbed
from engine.evaluation.job import DEFAULT_MAX_LENGTH
from engine.evaluation.prompts import CONTINUATION_TOKENS
from engine.evaluation.scoring import TokenRow, TokenScorer, autocast_like_training, causal_model
from engine.evaluation.target_scoring import TargetScorer
from engine.evaluation.texts import DEFAULT_NEW_TOKENS, NUM_SAMPLES
from engine.methods import lora
from engine.models.loading import compute_dtype
from engine.planning.evaluation_cut import MAX_ROWS, answered_rows
from engine.planning.few_shot import example_tokens
from engine.planning.plan import Plan
from engine.rehearsal.hollow import HollowMode
from engine.rehearsal.models import build_model
from engine.rehearsal.rows import longest_lengths, longest_targets
from engine.rehearsal.step import Rehearsed
from engine.rehearsal.tracer import Tracer
from engine.runs.references import weights_bytes
from engine.training.checkpoints import learnt_tensors

PARITY_ROWS = 4
_DECODED_TOKENS = 2


def evaluate(rehearsed: Rehearsed, mode: HollowMode, tracer: Tracer) -> None:
    """Measure the longest held-out rows and answer the longest prompts, as the evaluation after training does."""
    if not rehearsed.plan.task.writes:
        with undisturbed(rehearsed.model), tracer.part("evaluation batch"):
            _read(rehearsed)
        return
    with undisturbed(rehearsed.model):
        with tracer.part("evaluation batch"):
            _score(rehearsed)
        with tracer.part("generation and its cache"):
            _answer(rehearsed, mode)
    if judge := rehearsed.recipe.preference.judge:
        with tracer.part("reward model"):
            _read_judge(rehearsed, weights_bytes(judge))


def _micro_batch_tokens(rehearsed: Rehearsed) -> int:
    training = rehearsed.recipe.training
    return rehearsed.plan.steps.micro_batch * (training.max_length or DEFAULT_MAX_LENGTH)


def _example_tokens(plan: Plan) -> int:
    return example_tokens(plan.recipe.evaluation.few_shot, plan.data)


def _read(rehearsed: Rehearsed) -> None:
    """Read as many of the longest held-out rows as fit, for a head that tells something of them."""
    lengths = longest_lengths(rehearsed.plan, max(1, rehearsed.plan.data.num_held_out))
    rows = max(1, min(MAX_ROWS, len(lengths), _micro_batch_tokens(rehearsed) // lengths[0]))
    ids = torch.ones((rows, lengths[0]), dtype=torch.int64)
    with autocast_like_training(causal_model(rehearsed.model), compute_dtype(rehearsed.recipe))():
        rehearsed.model(input_ids=ids, attention_mask=torch.ones_like(ids))


def _score(rehearsed: Rehearsed) -> None:
    plan = rehearsed.plan
    if plan.task.head == "seq2seq-lm":
        _score_pairs(rehearsed)
        return
    available = min(MAX_ROWS, plan.recipe.evaluation.max_rows, max(1, plan.data.num_held_out))
    lengths = longest_lengths(plan, available)
    rows = max(1, min(available, _micro_batch_tokens(rehearsed) // lengths[0]))
    scorer = TokenScorer(rehearsed.model, precision=compute_dtype(rehearsed.recipe))
    scorer.score([TokenRow([1] * length, [1] * length) for length in lengths[:rows]])
    if examples := _example_tokens(plan):
        longest = min(lengths[0] + examples, context_length(rehearsed.model))
        scorer.score([TokenRow([1] * longest, [0] * (longest - 2) + [1] * 2)])


def _read_judge(rehearsed: Rehearsed, num_bytes: int) -> None:
    """Have the weights of the reward model there that compares the answers; it reads as the model itself does."""
    judge = torch.empty(num_bytes, dtype=torch.uint8)
    with undisturbed(rehearsed.model):
        _score(rehearsed)
    del judge


def _score_pairs(rehearsed: Rehearsed) -> None:
    """Score the longest sources with the longest texts to write."""
    plan = rehearsed.plan
    available = min(MAX_ROWS, plan.recipe.evaluation.max_rows, max(1, plan.data.num_held_out))
    sources, targets = longest_lengths(plan, available), longest_targets(plan, available)
    count = max(1, min(available, _micro_batch_tokens(rehearsed) // (sources[0] + targets[0])))
    rows = [
        TokenRow([1] * (source + target), [0] * source + [1] * target)
        for source, target in zip(sources[:count], targets[:count], strict=True)
    ]
    TargetScorer(rehearsed.model, rehearsed.tokenizer, precision=compute_dtype(rehearsed.recipe)).score(rows)


def _answer(rehearsed: Rehearsed, mode: HollowMode) -> None:
    """Answer the longest prompts, and the longest one behind the examples of the few-shot baseline."""
    longest = longest_lengths(rehearsed.plan, 1)[0]
    room = context_length(rehearsed.model) - 1
    _answer_prompts(rehearsed, mode, min(longest, room))
    if examples := _example_tokens(rehearsed.plan):
        _answer_prompts(rehearsed, mode, min(longest + examples, room))


def _answer_prompts(rehearsed: Rehearsed, mode: HollowMode, prompt: int) -> None:
    """Read as many prompts as evaluation takes at once and write the last token: in between, only the cache grows."""
    plan, model = rehearsed.plan, rehearsed.model
    new_tokens = min(_max_new_tokens(rehearsed), context_length(model) - prompt)
    share = generation_share(model, activation_checkpointing=bool(plan.recipe.training.activation_checkpointing))
    asked = min(plan.recipe.evaluation.generate_rows + NUM_SAMPLES, max(1, plan.data.num_held_out))
    beams = plan.recipe.text_to_text.num_beams
    rows = min(asked, max(1, answered_rows(_micro_batch_tokens(rehearsed), prompt, new_tokens, share) // beams))
    decoded = min(_DECODED_TOKENS, new_tokens)
    precision = compute_dtype(rehearsed.recipe)
    answerer = Answerer(
        model,
        rehearsed.tokenizer,
        max_new_tokens=decoded,
        micro_batch_tokens=rows * (prompt + decoded),
        precision=precision,
    )
    answerer.answer([[1] * prompt] * rows, lambda number: None)
    with autocast_like_training(causal_model(model), precision)():
        if plan.task.head == "seq2seq-lm":
            _write_last_of_target(rehearsed, mode, (rows * beams, prompt), new_tokens)
        else:
            _write_last_token(rehearsed, mode, rows * beams, prompt + new_tokens)


def _max_new_tokens(rehearsed: Rehearsed) -> int:
    limit = rehearsed.recipe.evaluation.max_new_tokens or DEFAULT_NEW_TOKENS
    return min(limit, CONTINUATION_TOKENS) if rehearsed.recipe.goal.plain_text else limit


def _write_last_token(rehearsed: Rehearsed, mode: HollowMode, rows: int, length: int) -> None:
    """Compute one token with keys and values of all `length - 1` before it."""
    model = causal_model(rehearsed.model)
    cache = DynamicCache(config=model.config)
    ids = torch.ones((rows, 1), dtype=torch.int64)
    model(input_ids=ids, past_key_values=cache, use_cache=True)
    _fill(cache, mode, length - 2)
    everything = torch.ones((rows, length), dtype=torch.int64)
    model(input_ids=ids, attention_mask=everything, past_key_values=cache, use_cache=True)


def _write_last_of_target(rehearsed: Rehearsed, mode: HollowMode, source: tuple[int, int], length: int) -> None:
    """Compute the last of `length` tokens beside an encoder that has read a source of this shape."""
    model = causal_model(rehearsed.model)
    cache = EncoderDecoderCache(DynamicCache(config=model.config), DynamicCache(config=model.config))
    ids = torch.ones(source, dtype=torch.int64)
    encoded = model.get_encoder()(input_ids=ids, attention_mask=ids)
    given = {"encoder_outputs": encoded, "attention_mask": ids, "past_key_values": cache, "use_cache": True}
    model(decoder_input_ids=ids[:, :1], **given)
    _fill(cache.self_attention_cache, mode, max(1, length - 2))
    model(decoder_input_ids=ids[:, :1], **given)


def _fill(cache: DynamicCache, mode: HollowMode, length: int) -> None:
    """Put keys and values of `length` more tokens into each layer."""
    for place, layer in enumerate(cache.layers):
        rows, heads, _, width = layer.keys.shape
        before = (rows, heads, length, width)
        cache.update(mode.hollow(before, layer.keys.dtype), mode.hollow(before, layer.keys.dtype), place)


def save(rehearsed: Rehearsed, mode: HollowMode, tracer: Tracer) -> None:
    """Copy what a checkpoint holds to host memory; on a GPU that takes nothing from the device."""
    if rehearsed.plan.device.kind == "cuda":
        return
    optimizer = rehearsed.trainer.optimizer
    assert optimizer is not None
    with tracer.part("copies for the checkpoint"):
        # Weights and states are written one after the other (`engine.training.checkpoints`).
        for tensors in (learnt_tensors(rehearsed.model).values(), _states(optimizer)):
            copies = [tensor.detach().to("cpu", copy=True).contiguous() for tensor in tensors]
            copies.clear()


def _states(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [value for values in optimizer.state.values() for value in values.values() if torch.is_tensor(value)]


def export(rehearsed: Rehearsed, mode: HollowMode, tracer: Tracer) -> None:
    """Merge the adapter as `engine.deployment.export` does, and compute the logits that are compared."""
    prompt = min(MAX_PROMPT_TOKENS, longest_lengths(rehearsed.plan, 1)[0])
    dtype = stored_dtype(rehearsed.plan.model.weights_dtype)
    on_cuda = rehearsed.plan.device.kind == "cuda"
    with tracer.part("merged model"):
        kept = [_logits(rehearsed.model, prompt, on_cuda=on_cuda)]
        if not isinstance(rehearsed.model, PeftModel):
            model = store_as(causal_model(rehearsed.model), narrower(dtype, rehearsed.model.dtype))
        elif not _merges(rehearsed) or (on_cuda and rehearsed.recipe.method.facts.bits is not None):
            # The export takes host memory for the second base model where the GPU has no room for it.
            return
        else:
            whole = _whole(rehearsed, mode)
            kept.append(_logits(whole, prompt, on_cuda=on_cuda))
            model = merge(whole, narrower(dtype, causal_model(whole).dtype))
        kept.append(_logits(model, prompt, on_cuda=on_cuda))


def _merges(rehearsed: Rehearsed) -> bool:
    return rehearsed.recipe.delivery.merge and rehearsed.recipe.method.facts.mergeable


def _whole(rehearsed: Rehearsed, mode: HollowMode) -> PeftModel:
    """Return the adapter on the base model in full precision: of a 4-bit model, beside the trained one."""
    if rehearsed.recipe.method.facts.bits is None:
        return rehearsed.model
    method = rehearsed.recipe.method.model_copy(update={"name": "lora"})
    recipe = rehearsed.recipe.model_copy(update={"method": method})
    plan = rehearsed.plan.model_copy(update={"recipe": recipe})
    return lora.apply(build_model(plan, rehearsed.config, mode), recipe)


def _logits(model: torch.nn.Module, length: int, *, on_cuda: bool) -> list[torch.Tensor]:
    """Return the logits of the compared rows where they are kept; from a GPU they go to host memory one by one."""
    if not on_cuda:
        return prompt_logits(model, [[1] * length] * PARITY_ROWS)
    prompt_logits(model, [[1] * length])
    return []


STAGES: dict[str, Callable[[Rehearsed, HollowMode, Tracer], None]] = {
    "evaluation": evaluate,
    "saving": save,
    "merging": export,
}
