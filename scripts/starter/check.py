"""Fine-tune the starter model on the quick start's data with plain `transformers` and `peft`, and count exact answers.

    python -m scripts.starter.check --seeds 1 2 3

It reads the numbers of `presets/quickstart.yaml` and nothing of the engine: an independent measure of what the quick
start should show. One line for each seed: exact match on held-out rows before and after, steps, seconds.
"""

import argparse
import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from peft import LoraConfig, get_peft_model
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

ROOT = Path(__file__).parents[2]
IGNORED = -100
HELD_OUT_SHARE = 0.1
EVALUATION_BATCH = 50


@dataclass(frozen=True, slots=True)
class Row:
    """A request, its command, and both as ids: `ids[prompt_length:]` is what is learned, end of turn included."""

    request: str
    command: str
    ids: list[int]
    prompt_length: int


def read_rows(path: Path, tokenizer: PreTrainedTokenizerBase) -> list[Row]:
    """Return the rows of a JSONL file in `messages` form, rendered with the chat template."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        user, assistant = json.loads(line)["messages"]
        prompt = tokenizer.apply_chat_template([user], add_generation_prompt=True, tokenize=False)
        prompt_ids = tokenizer.encode(prompt, add_special_tokens=False)
        answer_ids = tokenizer.encode(assistant["content"], add_special_tokens=False)
        ids = [*prompt_ids, *answer_ids, tokenizer.eos_token_id]
        rows.append(Row(user["content"], assistant["content"], ids, len(prompt_ids)))
    return rows


def pad(sequences: list[list[int]], value: int, *, left: bool = False) -> torch.Tensor:
    """Return sequences as one tensor, shape (rows, longest)."""
    longest = max(len(sequence) for sequence in sequences)
    fill = [[value] * (longest - len(sequence)) for sequence in sequences]
    return torch.tensor(
        [[*space, *sequence] if left else [*sequence, *space] for sequence, space in zip(sequences, fill, strict=True)]
    )


def answer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]], max_new_tokens: int
) -> list[str]:
    """Return the greedy answer to each prompt."""
    answers: list[str] = []
    model.eval()
    for start in range(0, len(prompts), EVALUATION_BATCH):
        batch = prompts[start : start + EVALUATION_BATCH]
        ids = pad(batch, tokenizer.pad_token_id, left=True)
        mask = pad([[1] * len(prompt) for prompt in batch], 0, left=True)
        with torch.inference_mode():
            made = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=max_new_tokens)
        answers += tokenizer.batch_decode(made[:, ids.shape[1] :], skip_special_tokens=True)
    return answers


def exact_match(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: list[Row], *, show: int = 0) -> float:
    """Return the share of rows whose greedy answer is the command to the letter."""
    longest = max(len(row.ids) - row.prompt_length for row in rows)
    answers = answer(model, tokenizer, [row.ids[: row.prompt_length] for row in rows], longest + 8)
    pairs = list(zip(rows, answers, strict=True))
    for row, text in pairs[:show]:
        print(f"  {row.request}\n    wanted {row.command}\n    got    {text}")
    return sum(row.command == text.strip() for row, text in pairs) / len(rows)


def _loss(model: PreTrainedModel, rows: list[Row], pad_id: int) -> torch.Tensor:
    ids_BT = pad([row.ids for row in rows], pad_id)
    mask_BT = pad([[1] * len(row.ids) for row in rows], 0)
    labels_BT = pad([[IGNORED] * row.prompt_length + row.ids[row.prompt_length :] for row in rows], IGNORED)
    logits_BTV = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
    return functional.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), labels_BT[:, 1:].flatten(), ignore_index=IGNORED)


def with_method(model: PreTrainedModel, method: dict[str, Any]) -> PreTrainedModel:
    """Return the model with the weights that a recipe's method trains."""
    if method["name"] == "full":
        return model
    rank = method["rank"]
    config = LoraConfig(
        r=rank, lora_alpha=method.get("alpha") or 2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return get_peft_model(model, config)


def train(model: PreTrainedModel, rows: list[Row], training: dict[str, Any], *, pad_id: int, rng: random.Random) -> int:
    """Train on rows as a recipe says and return the number of optimizer steps."""
    batch = training["effective_batch"]
    steps_per_epoch = math.ceil(len(rows) / batch)
    num_steps = int(steps_per_epoch * training["epochs"])
    warmup_steps = max(1, round(num_steps * training.get("warmup", 0.03)))
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    learning_rate = float(training["learning_rate"])  # PyYAML reads YAML 1.1, in which 5e-3 is a text.
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.0)
    order: list[Row] = []
    model.train()
    for step in range(num_steps):
        if not order:
            order = rng.sample(rows, len(rows))
        chosen, order = order[:batch], order[batch:]
        done = max(0.0, (step - warmup_steps) / max(1, num_steps - warmup_steps))
        factor = min(1.0, (step + 1) / warmup_steps) * 0.5 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * factor
        torch.autograd.backward(_loss(model, chosen, pad_id))
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return num_steps


def check(recipe: dict[str, Any], model_folder: Path, data: Path, seed: int, *, show: int = 0) -> dict[str, float]:
    """Fine-tune once and return exact match before and after, steps and seconds."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    rows = read_rows(data, tokenizer)
    rng.shuffle(rows)
    split = round(len(rows) * HELD_OUT_SHARE)
    held_out, training_rows = rows[:split], rows[split:]
    before = exact_match(model, tokenizer, held_out, show=show)
    model = with_method(model, recipe["method"])
    started = time.monotonic()
    steps = train(model, training_rows, recipe["training"], pad_id=tokenizer.pad_token_id, rng=rng)
    elapsed_s = time.monotonic() - started
    after = exact_match(model, tokenizer, held_out, show=show)
    return {
        "seed": seed,
        "before": before,
        "after": after,
        "steps": steps,
        "elapsed_s": elapsed_s,
        "held_out_rows": split,
    }


def main() -> None:
    """Check the quick start with several seeds."""
    parser = argparse.ArgumentParser(description="Fine-tune the starter model on the quick start's data.")
    parser.add_argument("--model", type=Path, default=ROOT / "presets/starter", help="folder of the starter model")
    parser.add_argument(
        "--data", type=Path, default=ROOT / "presets/commands/commands.jsonl", help="JSONL file of the quick start"
    )
    parser.add_argument("--recipe", type=Path, default=ROOT / "presets/quickstart.yaml", help="recipe with the numbers")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="seeds of split, order and adapter")
    parser.add_argument("--learning-rate", type=float, help="instead of the recipe's")
    parser.add_argument("--epochs", type=float, help="instead of the recipe's")
    parser.add_argument("--rank", type=int, help="instead of the recipe's")
    parser.add_argument("--method", choices=("lora", "full"), help="instead of the recipe's")
    parser.add_argument("--show", type=int, default=0, help="held-out rows to print before and after")
    options = parser.parse_args()
    recipe = yaml.safe_load(options.recipe.read_text(encoding="utf-8"))
    for section, name, value in (
        ("training", "learning_rate", options.learning_rate),
        ("training", "epochs", options.epochs),
        ("method", "rank", options.rank),
        ("method", "name", options.method),
    ):
        if value is not None:
            recipe[section][name] = value
    for seed in options.seeds:
        result = check(recipe, options.model, options.data, seed, show=options.show)
        print(" ".join(f"{name}={value:.4g}" for name, value in result.items()), flush=True)


if __name__ == "__main__":
    main()
