"""Pre-train the starter model from nothing, on the generator's text and a little public-domain text.

    python -m scripts.starter.pretrain --output presets/starter

The same seed gives the same tokenizer and the same order of documents; weights agree up to the rounding of the
machine's arithmetic. `docs/starter.md` holds the loss to expect.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from torch.nn import functional
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from scripts.starter.corpus import documents
from scripts.starter.tokenizer import CONTEXT_LENGTH, encode_document, train_tokenizer

SEED = 17
STEPS = 1600
BATCH_TOKENS = 8192
MICRO_TOKENS = 2048
"""Tokens in one forward pass: the activations then stay in a core's cache (measured: 0.57 s a step, not 0.67)."""
ROW_TOKENS = 256
LONG_SHARE = 0.15
"""Share of the steps, at the end, whose rows fill the context: the model then knows every position it offers."""
PEAK_LEARNING_RATE = 5e-3
WARMUP_STEPS = 60
REPORT_EVERY = 50

Curve = list[dict[str, float]]
"""Points of a run: `step, loss, held_out_loss, elapsed_s`."""


def new_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Return the untrained model: under a million weights, embeddings tied, float32."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, max_new_tokens=128
    )
    return model


def rows(tokenizer: PreTrainedTokenizerFast, seed: int, num_tokens: int) -> Iterator[list[int]]:
    """Yield rows of token ids; each starts with a whole document and is filled with more, the last one cut."""
    row: list[int] = []
    for document in documents(seed):
        row += encode_document(tokenizer, document)
        if len(row) >= num_tokens:
            yield row[:num_tokens]
            row = []


def batches(tokenizer: PreTrainedTokenizerFast, seed: int, row_tokens: int) -> Iterator[torch.Tensor]:
    """Yield batches of `BATCH_TOKENS` token ids, shape (rows, row_tokens)."""
    stream = rows(tokenizer, seed, row_tokens)
    while True:
        yield torch.tensor(list(islice(stream, BATCH_TOKENS // row_tokens)))


def next_token_loss(model: LlamaForCausalLM, ids_BT: torch.Tensor) -> torch.Tensor:
    """Return the mean loss over all next tokens of a batch, in nats."""
    logits_BTV = model(input_ids=ids_BT[:, :-1], use_cache=False).logits
    return functional.cross_entropy(logits_BTV.flatten(0, 1), ids_BT[:, 1:].flatten())


def accumulate(model: LlamaForCausalLM, ids_BT: torch.Tensor) -> float:
    """Add a batch's gradients to the weights', in pieces and with bfloat16 products, and return its loss."""
    total = 0.0
    for piece_BT in torch.split(ids_BT, MICRO_TOKENS // ids_BT.shape[1]):
        with torch.autocast("cpu", torch.bfloat16):
            loss = next_token_loss(model, piece_BT) * (len(piece_BT) / len(ids_BT))
        torch.autograd.backward(loss)
        total += loss.item()
    return total


def learning_rate(step: int, num_steps: int) -> float:
    """Return the learning rate of a step: a linear rise, then a cosine down to a hundredth of the peak."""
    if step < WARMUP_STEPS:
        return PEAK_LEARNING_RATE * (step + 1) / WARMUP_STEPS
    done = (step - WARMUP_STEPS) / max(1, num_steps - WARMUP_STEPS)
    return PEAK_LEARNING_RATE * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def _optimizer(model: LlamaForCausalLM) -> torch.optim.AdamW:
    matrices = [weight for weight in model.parameters() if weight.dim() >= 2]
    others = [weight for weight in model.parameters() if weight.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.05}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), fused=True)


def held_out_loss(model: LlamaForCausalLM, ids_BT: torch.Tensor) -> float:
    """Return the loss on rows of documents that no training step has seen."""
    model.eval()
    with torch.inference_mode():
        loss = next_token_loss(model, ids_BT)
    model.train()
    return float(loss)


def pretrain(tokenizer: PreTrainedTokenizerFast, num_steps: int, seed: int) -> tuple[LlamaForCausalLM, Curve]:
    """Train a new model and return it with its curve: step, losses, seconds."""
    torch.manual_seed(seed)
    model = new_model(tokenizer).train()
    optimizer = _optimizer(model)
    short = batches(tokenizer, seed, ROW_TOKENS)
    long = batches(tokenizer, seed + 1, CONTEXT_LENGTH)
    held_out = next(batches(tokenizer, seed + 2, 2 * ROW_TOKENS))
    curve: Curve = []
    started = time.monotonic()
    for step in range(num_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, num_steps)
        loss = accumulate(model, next(short if step < num_steps * (1 - LONG_SHARE) else long))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == num_steps:
            point = {
                "step": step + 1,
                "loss": loss,
                "held_out_loss": held_out_loss(model, held_out),
                "elapsed_s": time.monotonic() - started,
            }
            curve.append(point)
            print(" ".join(f"{name}={value:.4g}" for name, value in point.items()), flush=True)
    return model.eval(), curve


def main() -> None:
    """Train tokenizer and model, and write both as a folder that `transformers` loads."""
    parser = argparse.ArgumentParser(description="Pre-train the starter model.")
    parser.add_argument("--output", type=Path, required=True, help="folder for the model")
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of weights and documents")
    parser.add_argument("--curve", type=Path, help="JSON file for the loss curve")
    options = parser.parse_args()
    tokenizer = train_tokenizer(options.seed)
    model, curve = pretrain(tokenizer, options.steps, options.seed)
    model.save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    if options.curve:
        options.curve.write_text(json.dumps(curve, indent=1) + "\n", encoding="utf-8")
    print(f"{model.num_parameters():,} weights written to {options.output}")


if __name__ == "__main__":
    main()
