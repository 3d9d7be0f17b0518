"""Well-known GPUs: the memory that NVML reports for them and their compute capability.

A card reports less than its label: a "24 GB" card has between 23028 and 24576 MiB, because ECC keeps a part (A10, L4)
or the firmware does. Memory: `nvidia-smi` outputs that owners of the cards published in issues and logs; cards with ECC
are listed with it on where they are delivered so. Compute capability: https://developer.nvidia.com/cuda-gpus
"""

import re
from dataclasses import dataclass
from difflib import get_close_matches

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Card:
    """One kind of GPU.

    Attributes:
        name: As people write it.
        label_gb: Memory on its box, in GB.
        total_mib: Memory that NVML reports, in MiB.
        compute_capability: Such as `(8, 9)`.
    """

    name: str
    label_gb: int
    total_mib: int
    compute_capability: tuple[int, int]

    @property
    def total_bytes(self) -> int:
        """Memory that NVML reports, in bytes."""
        return self.total_mib * MIB

    @property
    def title(self) -> str:
        """Name with its memory, such as `A100 80GB`."""
        return f"{self.name} {self.label_gb}GB"


CARDS = (
    Card("GTX 1080 Ti", 11, 11264, (6, 1)),
    Card("RTX 2080 Ti", 11, 11264, (7, 5)),
    Card("RTX 3060", 12, 12288, (8, 6)),
    Card("RTX 3070", 8, 8192, (8, 6)),
    Card("RTX 3080", 10, 10240, (8, 6)),
    Card("RTX 3090", 24, 24576, (8, 6)),
    Card("RTX 3090 Ti", 24, 24564, (8, 6)),
    Card("RTX 4060", 8, 8188, (8, 9)),
    Card("RTX 4060 Ti", 8, 8188, (8, 9)),
    Card("RTX 4060 Ti", 16, 16380, (8, 9)),
    Card("RTX 4070", 12, 12282, (8, 9)),
    Card("RTX 4070 Super", 12, 12282, (8, 9)),
    Card("RTX 4070 Ti", 12, 12282, (8, 9)),
    Card("RTX 4080", 16, 16376, (8, 9)),
    Card("RTX 4080 Super", 16, 16376, (8, 9)),
    Card("RTX 4090", 24, 24564, (8, 9)),
    Card("RTX 5070", 12, 12227, (12, 0)),
    Card("RTX 5070 Ti", 16, 16303, (12, 0)),
    Card("RTX 5080", 16, 16303, (12, 0)),
    Card("RTX 5090", 32, 32607, (12, 0)),
    Card("RTX A4000", 16, 16376, (8, 6)),
    Card("RTX A5000", 24, 24564, (8, 6)),
    Card("RTX A6000", 48, 49140, (8, 6)),
    Card("RTX 6000 Ada", 48, 49140, (8, 9)),
    Card("RTX PRO 6000", 96, 97887, (12, 0)),
    Card("P100", 16, 16384, (6, 0)),
    Card("V100", 16, 16384, (7, 0)),
    Card("V100", 32, 32768, (7, 0)),
    Card("T4", 16, 15360, (7, 5)),
    Card("A10", 24, 23028, (8, 6)),
    Card("A10G", 24, 23028, (8, 6)),
    Card("A30", 24, 24576, (8, 0)),
    Card("A40", 48, 46068, (8, 6)),
    Card("A100", 40, 40960, (8, 0)),
    Card("A100", 80, 81920, (8, 0)),
    Card("L4", 24, 23034, (8, 9)),
    Card("L40S", 48, 46068, (8, 9)),
    Card("H20", 96, 97871, (9, 0)),
    Card("H100", 80, 81559, (9, 0)),
    Card("H100 NVL", 94, 95830, (9, 0)),
    Card("GH200", 96, 97871, (9, 0)),
    Card("H200", 141, 143771, (9, 0)),
    Card("B200", 180, 183359, (10, 0)),
)

# Words that sellers and drivers put around a name without meaning another amount of memory.
_NOISE = re.compile(r"\b(nvidia|geforce|tesla|quadro|generation|blackwell|gpu|sxm\d?|pcie|hbm\d?e?)\b")


def plain_name(name: str) -> str:
    """Return a card's name without case, spaces, hyphens and the words that do not decide."""
    words = _NOISE.sub(" ", name.lower().replace("-", " ").replace("_", " "))
    return words.replace(" ", "")


def cards_named(name: str) -> list[Card]:
    """Return the cards with a name, one for each amount of memory; `4090` finds `RTX 4090`."""
    wanted = plain_name(name)
    spellings = (wanted, f"rtx{wanted}", f"gtx{wanted}", f"rtx{wanted.removeprefix('rtx')}")
    return next((found for spelling in spellings if (found := _spelled(spelling))), [])


def _spelled(spelling: str) -> list[Card]:
    return [card for card in CARDS if plain_name(card.name) == spelling]


def nearest_cards(name: str, count: int = 4) -> list[str]:
    """Return the names of the cards that are written most like a name."""
    names = {plain_name(card.name): card.name for card in CARDS}
    wanted = plain_name(name)
    close = get_close_matches(wanted, names, n=count, cutoff=0.5) or get_close_matches(f"rtx{wanted}", names, n=count)
    return [names[key] for key in close]


def least_with_label(label_gb: float) -> int | None:
    """Return the least memory in bytes that a card sold with so many GB reports; None when no card is sold so."""
    return min((card.total_bytes for card in CARDS if card.label_gb == label_gb), default=None)
