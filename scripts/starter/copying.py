"""An initial circuit that looks back and copies, so that pre-training has to polish copying instead of discovering it.

A model of this size and width finds copying ("induction heads", Olsson et al. 2022, arXiv:2209.11895) only after far
more text than two CPU cores read in half an hour. So two attention layers start near that circuit; every other weight
starts at random, and all of them are trained:

- a constant in dimension 0 of every embedding lets a head attend by position alone;
- in the first layer, head 0 looks one token back and notes what it saw in dimensions that embeddings leave empty;
- in the second layer, heads 0 and 2 look for places whose note is the present token, and bring what stands there.

Shapes: D is the width, H the width of a head; `o_proj` and `q_proj` hold heads one after another.
"""

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

NOTE_WIDTH = 32
"""Dimensions at the end of the residual stream that hold notes on the previous token."""
POSITION_PAIRS = 6
"""Fastest rotary pairs, which tell one token back from two."""
CONTENT_PAIRS = 8
"""Slowest rotary pairs, in which a match looks the same at any distance."""
LOOK_BACK = 7.0
CONSTANT = 4.0
"""Size of the constant, in standard deviations of an embedding's other entries."""
MATCH = 3.0
NOTE = 0.1
BRING = 0.5
"""With these sizes 79 % of random tokens are copied right before any training, and none without the circuit."""


def _rows(num_rows: int, num_columns: int, generator: torch.Generator) -> Tensor:
    """Return orthonormal rows, shape (num_rows, num_columns)."""
    square: Tensor = torch.linalg.qr(torch.randn(num_columns, num_columns, generator=generator)).Q
    return square[:num_rows]


@torch.no_grad()
def plant_copying(model: LlamaForCausalLM, seed: int) -> None:
    """Write the circuit into an untrained model."""
    generator = torch.Generator().manual_seed(seed)
    embeddings_VD = model.model.embed_tokens.weight
    scale = float(embeddings_VD.std())
    embeddings_VD[:, 0] = CONSTANT * scale
    embeddings_VD[:, -NOTE_WIDTH:] = 0.0
    for layer in model.model.layers:
        # What blocks write starts at nothing, so that it cannot drown the embeddings that the circuit compares.
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    width, head = model.config.hidden_size, model.config.head_dim
    content = slice(1, width - NOTE_WIDTH)
    noted_HD = torch.zeros(head, width)
    noted_HD[:, content] = _rows(head, width - NOTE_WIDTH - 1, generator)
    _look_back(model, noted_HD)
    for group in range(2):
        _look_up(model, noted_HD, group, _rows(head, width - NOTE_WIDTH - 1, generator), content)


def _look_back(model: LlamaForCausalLM, noted_HD: Tensor) -> None:
    """Make head 0 of the first layer attend to the previous token and write its note."""
    attention = model.model.layers[0].self_attn
    head = model.config.head_dim
    half = head // 2
    angles = model.model.rotary_emb.inv_freq[:POSITION_PAIRS]
    query_HD, key_HD = torch.zeros_like(noted_HD), torch.zeros_like(noted_HD)
    size = LOOK_BACK / CONSTANT
    query_HD[:POSITION_PAIRS, 0] = size
    # A key turned ahead by one position's angle meets the query exactly one token later.
    key_HD[:POSITION_PAIRS, 0] = size * torch.cos(angles)
    key_HD[half : half + POSITION_PAIRS, 0] = size * torch.sin(angles)
    attention.q_proj.weight[:head] = query_HD
    attention.k_proj.weight[:head] = key_HD
    attention.v_proj.weight[:head] = noted_HD
    attention.o_proj.weight[:, :head] = 0.0
    attention.o_proj.weight[-NOTE_WIDTH:, :head] = NOTE * torch.eye(head)


def _look_up(model: LlamaForCausalLM, noted_HD: Tensor, group: int, brought: Tensor, content: slice) -> None:
    """Make one head of a group of the second layer find the note of the present token and bring what stands there."""
    attention = model.model.layers[1].self_attn
    head, width = model.config.head_dim, model.config.hidden_size
    per_group = model.config.num_attention_heads // model.config.num_key_value_heads
    slow = torch.cat([torch.arange(head // 2 - CONTENT_PAIRS, head // 2), torch.arange(head - CONTENT_PAIRS, head)])
    notes = torch.arange(group * 2 * CONTENT_PAIRS, (group + 1) * 2 * CONTENT_PAIRS)
    query_HD, key_HD, value_HD = (torch.zeros(head, width) for _ in range(3))
    query_HD[slow] = MATCH * noted_HD[notes]
    key_HD[slow, width - NOTE_WIDTH + notes] = MATCH
    value_HD[:, content] = brought
    first = group * per_group * head
    attention.q_proj.weight[first : first + head] = query_HD
    attention.k_proj.weight[group * head : (group + 1) * head] = key_HD
    attention.v_proj.weight[group * head : (group + 1) * head] = value_HD
    attention.o_proj.weight[:, first : first + head] = BRING * value_HD.T
