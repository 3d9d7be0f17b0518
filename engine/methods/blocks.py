"""The parts of a model from the top down: its head, its blocks, its embeddings; found by structure, not by name.

A stack of blocks is a list of modules that holds matrices in each of its entries and lies in no other such list. A
decoder or an encoder has one stack, an encoder-decoder model two, the encoder's first. Outside of the stacks the base
model holds embeddings, what is called one, and norms that end a stack; what else stands in front of the first stack is
counted with the embeddings. Everything beside the base model is the head.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from engine.recipe.problems import Problem, ProblemError
from engine.text import clean_line

LEAST_MATRICES = 2
"""Matrices in an entry of a stack; a list of single layers, one for each of something else, is none."""


@dataclass(frozen=True, slots=True)
class Part:
    """Weights that learn or are frozen together.

    Attributes:
        kind: What it is.
        title: What people call it: `block 3`, `encoder block 3`, `output layer`.
        names: Of its weights, as `named_parameters` has them; a tied one only where it first stands.
    """

    kind: str
    title: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parts:
    """All weights of a model, each in exactly one part.

    Attributes:
        head: What stands above the blocks: output layer or classifier, and the last norm.
        blocks: From the top down; of an encoder-decoder model the decoder's first.
        embeddings: What stands below: the token table, positions, and an output layer that is tied to it.
        head_has_matrix: Whether the head holds more than norms and biases.
    """

    head: Part
    blocks: tuple[Part, ...]
    embeddings: Part
    head_has_matrix: bool

    @property
    def names(self) -> list[str]:
        """Names of all weights, from the top down."""
        return [name for part in (self.head, *self.blocks, self.embeddings) for name in part.names]


@dataclass(frozen=True, slots=True)
class _Stack:
    path: str
    entries: tuple[torch.nn.Module, ...]


def find_parts(model: PreTrainedModel) -> Parts:
    """Return the parts of a model.

    Raises:
        ProblemError: The model does not have the stacks that its kind has; the message says what was looked for.
    """
    stacks = _stacks_of_its_kind(model)
    owner = {id(p): place for place, block in enumerate(_entries(stacks)) for p in block.parameters()}
    embeddings = _embedding_weights(model)
    upper: list[str] = []
    lower: list[str] = []
    inside: dict[int, list[str]] = {place: [] for place in range(sum(len(stack.entries) for stack in stacks))}
    entered = False
    for name, parameter in model.named_parameters():
        place = owner.get(id(parameter))
        if place is not None:
            entered = True
            inside[place].append(name)
        elif id(parameter) in embeddings or _is_called_embedding(name):
            lower.append(name)
        elif len(stacks) > 1 and name.startswith(_parent(stacks[0].path)):
            inside[len(stacks[0].entries) - 1].append(name)
        elif entered or "norm" in name.lower() or not name.startswith(f"{model.base_model_prefix}."):
            upper.append(name)
        else:
            lower.append(name)
    titles = list(_titles(stacks))
    blocks = tuple(Part("block", titles[place], tuple(inside[place])) for place in reversed(inside))
    shapes = dict(model.named_parameters())
    has_matrix = any(shapes[name].ndim > 1 for name in upper)
    return Parts(
        head=Part("head", "output layer" if has_matrix else "last norm", tuple(upper)),
        blocks=blocks,
        embeddings=Part("embeddings", "embeddings", tuple(lower)),
        head_has_matrix=has_matrix,
    )


def block_modules(model: PreTrainedModel) -> dict[str, torch.nn.Module]:
    """Return the blocks of a model by their full names, from the bottom up.

    Raises:
        ProblemError: As `find_parts`.
    """
    return {
        f"{stack.path}.{place}": entry
        for stack in _stacks_of_its_kind(model)
        for place, entry in enumerate(stack.entries)
    }


def _stacks_of_its_kind(model: PreTrainedModel) -> list[_Stack]:
    stacks = _stacks(model)
    wanted = 2 if model.config.is_encoder_decoder else 1
    if len(stacks) != wanted:
        raise _unknown(model, stacks, wanted)
    return stacks


def _stacks(model: PreTrainedModel) -> list[_Stack]:
    found: list[_Stack] = []
    for path, module in model.named_modules():
        if not isinstance(module, torch.nn.ModuleList) or any(path.startswith(f"{outer.path}.") for outer in found):
            continue
        entries = tuple(module)
        if entries and all(_num_matrices(entry) >= LEAST_MATRICES for entry in entries):
            found.append(_Stack(path, entries))
    return found


def _num_matrices(module: torch.nn.Module) -> int:
    # A 4-bit matrix is stored as a column of bytes, so that it has two dimensions as well.
    return sum(parameter.ndim > 1 for parameter in module.parameters())


def _entries(stacks: Iterable[_Stack]) -> Iterator[torch.nn.Module]:
    return (entry for stack in stacks for entry in stack.entries)


def _titles(stacks: list[_Stack]) -> Iterator[str]:
    prefixes = ("encoder ", "decoder ") if len(stacks) > 1 else ("",)
    for prefix, stack in zip(prefixes, stacks, strict=True):
        for number in range(1, len(stack.entries) + 1):
            yield f"{prefix}block {number}"


def _embedding_weights(model: PreTrainedModel) -> set[int]:
    tables = (module for module in model.modules() if isinstance(module, torch.nn.Embedding))
    found = {id(parameter) for table in tables for parameter in table.parameters()}
    for module in model.modules():
        # What DeBERTa holds beside its relative positions works in every block, as they do.
        if "rel_embeddings" in dict(module.named_children()):
            beside = (child for child in module.children() if not isinstance(child, torch.nn.ModuleList))
            found |= {id(parameter) for child in beside for parameter in child.parameters()}
    return found


def _is_called_embedding(name: str) -> bool:
    return any("embed" in part for part in name.lower().split("."))


def _parent(path: str) -> str:
    return path.rpartition(".")[0] + "."


def _unknown(model: PreTrainedModel, stacks: list[_Stack], wanted: int) -> ProblemError:
    kind = "an encoder-decoder model has two: encoder and decoder" if wanted == 2 else "this kind of model has one"
    paths = ", ".join(clean_line(stack.path, max_chars=60) for stack in stacks[:4]) or "none"
    return ProblemError(
        Problem(
            "method.unknown_blocks",
            f"The blocks of {clean_line(type(model).__name__, max_chars=60)} were not found. Looked for lists of "
            f"blocks that each hold at least {LEAST_MATRICES} matrices; {kind}, and there are {len(stacks)} ({paths}).",
            "Choose the method full or lora.",
            path="method.name",
        )
    )
