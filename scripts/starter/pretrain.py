"""Pre-train the starter model on the generator's text and a little public-domain text.

    python -m scripts.starter.pretrain --output presets/starter

The same seed gives the same tokenizer and the same order of documents; weights agree up to the rounding of the
machine's arithmetic. `docs/starter.md` holds the loss to expect.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import torch
from torch.nn import functional
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from scripts.starter.copying import plant_copying
from scripts.starter.corpus import documents
from scripts.starter.skills import drill
from scripts.starter.tokenizer import CONTEXT_LENGTH, encode_document, train_tokenizer

SEED = 17
STEPS = 5000
BATCH_TOKENS = 2048
"""Small: copying is learned after a number of steps, and the activations of few rows stay in a core's cache."""
ROW_TOKENS = 256
LONG_SHARE = 0.15
"""Share of the steps, at the end, whose rows fill the context: the model then knows every position it offers."""
PEAK_LEARNING_RATE = 3e-3
WARMUP_STEPS = 60
INITIAL_SCALE = 0.08
"""About 1 / sqrt(width); the usual 0.02 is meant for far wider models."""
REPORT_EVERY = 250
HELD_OUT_BATCHES = 4
COPY_DRILLS = 40

Curve = list[dict[str, float]]
"""Points of a run: `step, loss, held_out_loss, copied, elapsed_s`."""


def new_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """Return the model before training: under a million weights, embeddings tied, the copying circuit in it."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=INITIAL_SCALE,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    plant_copying(model, seed)
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


def backward(model: LlamaForCausalLM, ids_BT: torch.Tensor) -> float:
    """Add a batch's gradients to the weights', with bfloat16 products, and return its loss."""
    with torch.autocast("cpu", torch.bfloat16):
        loss = next_token_loss(model, ids_BT)
    torch.autograd.backward(loss)
    return loss.item()


def copied_share(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, seed: int) -> float:
    """Return the share of right next tokens in the second half of lines that are written out twice."""
    rng = random.Random(seed)
    right = total = 0
    for _ in range(COPY_DRILLS):
        line = tokenizer.encode(drill(rng).split("\n")[0] + "\n")
        ids_BT = torch.tensor([line * 2])
        with torch.inference_mode():
            best_T = model(input_ids=ids_BT).logits[0].argmax(-1)
        # The first token of the second line could be anything.
        right += int((best_T[len(line) : -1] == ids_BT[0, len(line) + 1 :]).sum())
        total += len(line) - 1
    return right / total


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
    return torch.optim.AdamW(groups, lr=PEAK_LEARNING_RATE, betas=(0.9, 0.99), fused=True)


def held_out_loss(model: LlamaForCausalLM, ids_BT: torch.Tensor) -> float:
    """Return the loss on rows of documents that no training step has seen."""
    model.eval()
    with torch.inference_mode():
        loss = next_token_loss(model, ids_BT)
    model.train()
    return float(loss)


def pretrain(
    tokenizer: PreTrainedTokenizerFast, num_steps: int, seed: int, state: Path | None = None
) -> tuple[LlamaForCausalLM, Curve]:
    """Train a new model and return it with its curve.

    Args:
        tokenizer: From `train_tokenizer` with the same seed.
        num_steps: Optimizer steps in all; the learning rate's schedule spans them.
        seed: Seed of weights and documents.
        state: File that keeps the training at each report; if it is there, the training goes on from it.
    """
    model = new_model(tokenizer, seed).train()
    optimizer = _optimizer(model)
    short = batches(tokenizer, seed, ROW_TOKENS)
    long = batches(tokenizer, seed + 1, CONTEXT_LENGTH)
    held_out = torch.cat(list(islice(batches(tokenizer, seed + 2, ROW_TOKENS), HELD_OUT_BATCHES)))
    curve: Curve = []
    if state is not None and state.exists():
        curve = _restore(state, model, optimizer)
    first_step = int(curve[-1]["step"]) if curve else 0
    num_short = round(num_steps * (1 - LONG_SHARE))
    stream = islice(chain(islice(short, num_short), long), first_step, None)
    started = time.monotonic() - (curve[-1]["elapsed_s"] if curve else 0.0)
    for step in range(first_step, num_steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, num_steps)
        loss = backward(model, next(stream))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if (step + 1) % REPORT_EVERY == 0 or step + 1 == num_steps:
            point = {
                "step": step + 1,
                "loss": loss,
                "held_out_loss": held_out_loss(model, held_out),
                "copied": copied_share(model, tokenizer, seed + 3),
                "elapsed_s": time.monotonic() - started,
            }
            curve.append(point)
            print(" ".join(f"{name}={value:.4g}" for name, value in point.items()), flush=True)
            if state is not None:
                _keep(state, model, optimizer, curve)
    return model.eval(), curve


def _keep(path: Path, model: LlamaForCausalLM, optimizer: torch.optim.AdamW, curve: Curve) -> None:
    """Replace the state file by the present state; a kill in between leaves the old one whole."""
    fresh = path.with_suffix(".new")
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "curve": curve}, fresh)
    fresh.replace(path)


def _restore(path: Path, model: LlamaForCausalLM, optimizer: torch.optim.AdamW) -> Curve:
    kept = torch.load(path, weights_only=True)
    model.load_state_dict(kept["model"])
    optimizer.load_state_dict(kept["optimizer"])
    curve: Curve = kept["curve"]
    return curve


def main() -> None:
    """Train tokenizer and model, and write both as a folder that `transformers` loads."""
    parser = argparse.ArgumentParser(description="Pre-train the starter model.")
    parser.add_argument("--output", type=Path, required=True, help="folder for the model")
    parser.add_argument("--steps", type=int, default=STEPS, help="optimizer steps")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of weights and documents")
    parser.add_argument("--state", type=Path, help="file that keeps the training, to go on from after an interruption")
    parser.add_argument("--curve", type=Path, help="JSON file for the loss curve")
    options = parser.parse_args()
    tokenizer = train_tokenizer(options.seed)
    model, curve = pretrain(tokenizer, options.steps, options.seed, options.state)
    model.save_pretrained(options.output)
    tokenizer.save_pretrained(options.output)
    if options.curve:
        options.curve.write_text(json.dumps(curve, indent=1) + "\n", encoding="utf-8")
    print(f"{model.num_parameters():,} weights written to {options.output}")


if __name__ == "__main__":
    main()
