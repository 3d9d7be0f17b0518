"""The text that the starter model is pre-trained on: an endless, seeded stream of documents.

A document is plain text, or a list of chat messages. Print a few: `python -m scripts.starter.corpus`.
"""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

from scripts.starter import facts, skills, stories, words
from scripts.starter.grammar import expand

Message = dict[str, str]
Document = str | list[Message]

PUBLIC_DOMAIN = Path(__file__).with_name("public_domain.txt")
_SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a friendly helper.",
    "You answer in short sentences.",
    "You are a kind assistant at home.",
)


def public_domain_passages() -> list[str]:
    """Return the passages of `public_domain.txt`, one string for each."""
    return PUBLIC_DOMAIN.read_text(encoding="utf-8").strip().split("\n\n")


def _messages(turns: list[tuple[str, str]], rng: random.Random) -> list[Message]:
    messages = [{"role": "system", "content": rng.choice(_SYSTEM_PROMPTS)}] if rng.random() < 0.1 else []
    for asked, answered in turns:
        messages += [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
    return messages


def _chat(rng: random.Random) -> Document:
    turns = [rng.choice((facts.question, skills.exercise))(rng) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    return _messages(turns, rng)


def _exercises(rng: random.Random) -> Document:
    return _messages([skills.exercise(rng) for _ in range(rng.choice((1, 1, 2)))], rng)


def _story_on_request(rng: random.Random) -> Document:
    hero = rng.choice(words.ANIMALS)
    asked = expand(
        "(tell me|can you tell me|I would like to hear) a (little |short |)story about a $hero(.| please.)",
        rng,
        hero=hero,
    )
    return _messages([(asked, stories.story(rng, hero))], rng)


def _public_domain(rng: random.Random) -> Document:
    return rng.choice(public_domain_passages())


_MIXTURE: tuple[tuple[Callable[[random.Random], Document], int], ...] = (
    (stories.story, 18),
    (stories.home, 7),
    (stories.week, 5),
    (stories.shopping, 6),
    (stories.instructions, 5),
    (stories.weather, 4),
    (stories.music, 3),
    (skills.scale_words, 1),
    (skills.drill, 10),
    (_story_on_request, 5),
    (_chat, 30),
    (_exercises, 44),
    (_public_domain, 3),
)


def documents(seed: int) -> Iterator[Document]:
    """Yield documents without end; the same seed gives the same stream."""
    rng = random.Random(seed)
    kinds = [kind for kind, _ in _MIXTURE]
    weights = [weight for _, weight in _MIXTURE]
    while True:
        yield rng.choices(kinds, weights)[0](rng)


def main() -> None:
    """Print the first documents of a stream."""
    stream = documents(seed=1)
    for _ in range(40):
        document = next(stream)
        if isinstance(document, str):
            print(document)
        else:
            print("\n".join(f"  [{message['role']}] {message['content']}" for message in document))
        print("---")


if __name__ == "__main__":
    main()
