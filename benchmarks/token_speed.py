"""How fast rows become token ids, against the bare tokenizer on the same texts in the same process.

`python benchmarks/token_speed.py [--folder MODEL] [--rounds 5] [--tokens 400000]`. Without a folder the tokenizer is a
byte-level BPE with 16,000 entries, split as GPT-4 splits, trained here on this project's own pages and code, of which
the rows are pieces too; the template is ChatML. Rounds alternate between the two, so that a busy machine slows both.
The bare tokenizer is given the rendered texts, whole, in one call of `encode_batch`; rendering, cutting where the last
answer starts, masks and the Arrow file are only on our side. Two ratios are told: of wall time, and of processor time,
which other programs on the machine disturb less but which does not see what overlaps.
"""

import argparse
import gc
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Read by the tokenizers library at every call.
os.environ["TOKENIZERS_PARALLELISM"] = "true"

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from engine.data.rendering import Renderer
from engine.data.rows import Row
from engine.data.spans import mark_conversation
from engine.data.tokenized import tokenize
from engine.models.tokenizers import load_tokenizer
from engine.recipe.read import check_recipe

ROOT = Path(__file__).parents[1]
LENGTHS = {"short": 60, "medium": 300, "long": 2000}
"""Tokens of a row, about."""
CHARS_PER_TOKEN = 4.2
VOCABULARY = 16_000
WHOLE = 1 << 30
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def corpus() -> str:
    """Return the pages and the code of this project."""
    files = sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("engine/**/*.py"), *ROOT.glob("tui/**/*.py")])
    return "\n".join(file.read_text(encoding="utf-8") for file in files)


def made_tokenizer(text: str) -> PreTrainedTokenizerBase:
    """Return a byte-level BPE trained on a text."""
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(_SPLIT), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([text], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=_CHATML
    )


def loaded_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a model's folder, as a run loads it."""
    tree = {"objective": "chat", "model": {"base": str(folder)}, "data": {"source": "rows.jsonl"}}
    return load_tokenizer(folder, check_recipe(tree, name="benchmark")).tokenizer


def made_rows(text: str, num_tokens: int, total: int, *, plain: bool) -> list[Row]:
    """Return rows of about so many tokens; of conversations the answer is two thirds of the text."""
    draw, size = random.Random(num_tokens), int(num_tokens * CHARS_PER_TOKEN)

    def piece(num_chars: int) -> str:
        begin = draw.randrange(len(text) - num_chars)
        return text[begin : begin + num_chars]

    def row(number: int) -> Row:
        if plain:
            return {"id": f"rows.jsonl:{number}", "text": piece(size)}
        question = {"role": "user", "content": piece(size // 3)}
        answer = {"role": "assistant", "content": piece(size - size // 3)}
        return {"id": f"rows.jsonl:{number}", "messages": [question, answer]}

    return [row(number) for number in range(1, total // num_tokens + 1)]


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Return the seconds of wall time and of processor time that some work takes."""
    gc.collect()
    started, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - used


def compare(name: str, rows: list[Row], renderer: Renderer, rounds: int) -> str:
    """Return one line: our speed, the bare tokenizer's, and what a second launch takes."""
    backend: Any = renderer.tokenizer.backend_tokenizer
    texts = [
        row["text"] if "text" in row else mark_conversation(renderer.template, row["messages"])[0].text for row in rows
    ]
    ours, bare, again = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):

            def launch(cache: Path = Path(folder) / str(number)) -> Any:
                return tokenize(rows, renderer, rows_sha256=name, cache=cache).cut(WHOLE)

            bare.append(timed(lambda: backend.encode_batch(texts, add_special_tokens=False)))
            ours.append(timed(launch))
            again.append(timed(launch))
            num_tokens = launch().num_tokens
    return (
        f"{name:>10}: {len(rows):>6,} rows, {num_tokens:>9,} tokens, {num_tokens / min(ours)[0]:>9,.0f} tokens/s, bare "
        f"{num_tokens / min(bare)[0]:>9,.0f}, ratio {_ratios(bare, ours, 0)}, of processor time "
        f"{_ratios(bare, ours, 1)}, second launch {1000 * statistics.median(wall for wall, _ in again):.0f} ms"
    )


def _ratios(bare: list[tuple[float, float]], ours: list[tuple[float, float]], clock: int) -> str:
    """Return the median and the range of the rounds: 0.9 where ours takes a ninth longer."""
    ratios = [theirs[clock] / own[clock] for theirs, own in zip(bare, ours, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main() -> None:
    """Compare short, medium and long conversations, and plain text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="a model folder with a fast tokenizer and a chat template")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=400_000, help="tokens of each case, about")
    arguments = parser.parse_args()
    text = corpus()
    tokenizer = loaded_tokenizer(arguments.folder) if arguments.folder else made_tokenizer(text)
    renderer = Renderer(tokenizer, WHOLE)
    print(f"{len(tokenizer):,} tokens known, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name, num_tokens in LENGTHS.items():
        rows = made_rows(text, num_tokens, arguments.tokens, plain=False)
        print(compare(name, rows, renderer, arguments.rounds))
    print(compare("plain text", made_rows(text, 300, arguments.tokens, plain=True), renderer, arguments.rounds))


if __name__ == "__main__":
    main()
