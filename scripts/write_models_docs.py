"""Write the tables of docs/models.md from the catalogue; with --check only tell whether they are true.

python scripts/write_models_docs.py [--check]
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from engine.catalog.base_model_card import BaseModelCard
from engine.catalog.base_models import BASE_MODELS
from engine.text import human_bytes, human_count

PAGE = Path(__file__).resolve().parent.parent / "docs" / "models.md"
BEGIN = "<!-- catalogue: python scripts/write_models_docs.py -->"
END = "<!-- end of the catalogue -->"
KINDS = {
    "decoder": "Decoders: they go on with a text",
    "encoder": "Encoders: they read, and cannot write",
    "encoder-decoder": "Encoders with a decoder: they turn a text into another",
}
HEADS = ("model", "weights", "download", "context", "licence", "languages", "offered for")


def tables(cards: tuple[BaseModelCard, ...] = BASE_MODELS) -> str:
    """Return the tables, one for each kind of model."""
    return "\n".join(line for kind, title in KINDS.items() for line in _table(kind, title, cards))


def _table(kind: str, title: str, cards: tuple[BaseModelCard, ...]) -> Iterator[str]:
    yield from (f"### {title}", "", f"| {' | '.join(HEADS)} |", f"|{'---|' * len(HEADS)}")
    for card in cards:
        if card.kind == kind and not card.builtin:
            yield f"| {' | '.join(_cells(card))} |"
    yield ""


def _cells(card: BaseModelCard) -> tuple[str, ...]:
    return (
        f"`{card.name}`",
        human_count(card.num_params or 0),
        human_bytes(card.download_bytes),
        f"{card.context_length or 0:,}",
        f"{card.license}, gated" if card.gated else card.license,
        card.languages,
        ", ".join(card.objectives),
    )


def page(text: str) -> str:
    """Return the page with the tables between its marks made anew.

    Raises:
        ValueError: The marks are not there.
    """
    before, _, rest = text.partition(BEGIN)
    _, mark, after = rest.partition(END)
    if not mark:
        raise ValueError(f"{PAGE.name} lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n{tables()}{END}{after}"


def main() -> int:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 when the page is not current")
    arguments = parser.parse_args()
    now = PAGE.read_text(encoding="utf-8")
    wanted = page(now)
    if arguments.check:
        if now != wanted:
            sys.stderr.write(f"{PAGE} is not current: run python scripts/write_models_docs.py\n")
        return int(now != wanted)
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
