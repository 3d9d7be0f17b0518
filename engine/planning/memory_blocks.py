"""What one transformer block keeps for the backward pass, tensor by tensor, and what it needs for a moment.

Counted as autograd keeps it in transformers 5 and PEFT under autocast, each rule held against traces of every storage
of a training step (docs/plan.md, "How the formula counts").

Legend: bytes per token of a micro-batch; `width` bytes of the arithmetic, `residual` bytes of the residual stream.
"""

from dataclasses import dataclass

from engine.planning.block_traits import BlockTraits, traits_of
from engine.planning.memory_setup import Setup, adapted_shapes, adapters_per_block, feeds_forward, scaled_shapes
from engine.planning.profiles import ModelProfile

_LAST_OF_ATTENTION = frozenset({"o_proj", "out_proj", "dense", "out_lin", "attention.output.dense", "attn.Wo", "o"})
_LAST_OF_ALL = frozenset({"down_proj", "fc2", "dense_4h_to_h", "output.dense", "lin2", "mlp.Wo", "wo"})


@dataclass(frozen=True, slots=True)
class BlockMemory:
    """Bytes of one block for a whole micro-batch.

    Attributes:
        kept: What lies there from the forward pass until the block's backward pass.
        entry: What a checkpointed block keeps instead: its input.
        unlearned: What the first block does not keep when nothing before it learns.
        passing: What its backward pass needs on top, for a moment.
        evaluating: What it needs without gradients.
    """

    kept: int
    entry: int
    unlearned: int
    passing: int
    evaluating: int


def block_memory(model: ModelProfile, setup: Setup) -> BlockMemory:
    """Return what one block of a model needs in a training step; of an encoder and a decoder, the mean of both."""
    decoder = _one_block(model, setup)
    if not model.encoder_layers:
        return decoder
    reading = model.model_copy(update={"linear_shapes": model.encoder_shapes, "encoder_layers": 0})
    encoder = _one_block(reading, setup)
    share = model.encoder_layers / model.num_layers
    return BlockMemory(
        kept=round(share * encoder.kept + (1 - share) * decoder.kept),
        entry=decoder.entry,
        unlearned=encoder.unlearned,
        passing=decoder.passing,
        evaluating=decoder.evaluating,
    )


def _one_block(model: ModelProfile, setup: Setup) -> BlockMemory:
    masked = _masked(setup)
    block = _Block(model, setup, traits_of(model.model_type), masked=masked)
    tokens = setup.tokens
    kept = block.kept()
    if not masked and 0 < model.sliding_window < setup.max_length and setup.attention != "flash_attention_2":
        # A window narrower than the sequence is cut out by a mask, in the blocks that look through one.
        windowed = _Block(model, setup, block.traits, masked=True).kept()
        kept += (windowed - kept) * model.windowed_layers / model.num_layers
    return BlockMemory(
        kept=round(tokens * kept),
        entry=tokens * model.hidden_size * block.residual,
        # Nothing before the first block learns, unless it is tokens in front of it.
        unlearned=0 if setup.full or setup.facts.adds_tokens else round(tokens * block.unlearned()),
        passing=round(tokens * block.passing()),
        evaluating=round(tokens * block.evaluating()),
    )


def _masked(setup: Setup) -> bool:
    """Return whether attention gets a mask; a single unpadded row needs none, and the flash kernels take none."""
    return setup.attention != "flash_attention_2" and (setup.sequences > 1 or setup.packed)


@dataclass(frozen=True, slots=True)
class _Block:
    model: ModelProfile
    setup: Setup
    traits: BlockTraits
    masked: bool

    @property
    def residual(self) -> int:
        """Bytes of a number of the residual stream: float32 where the embeddings are."""
        return 4 if self.setup.full else self.setup.width

    @property
    def attentions(self) -> int:
        """Attentions of the block: a decoder beside an encoder looks at itself and at what was read."""
        return 2 if self.model.encoder_layers else 1

    @property
    def query(self) -> int:
        return self.model.num_heads * self.model.head_dim

    @property
    def key_value(self) -> int:
        return self.model.num_kv_heads * self.model.head_dim

    def kept(self) -> float:
        return self.norms() + self.inputs() + self.attention() + self.feed_forward() + self.experts() + self.dropout()

    @property
    def learns(self) -> bool:
        """Whether the block's own weights learn, in float32."""
        return self.setup.full or self.setup.part

    def unlearned(self) -> float:
        """Return what the first of the blocks need not keep, as nothing that it reads learns."""
        if self.setup.facts.learns != "bottleneck":
            return self.norm_input()
        # The first adapter stands behind attention, or behind all of the block.
        below = self.norm_input() + self.attention()
        return below + (self.norm_input() + self.feed_forward() if self.setup.depth.placement == "pfeiffer" else 0)

    def norm_input(self) -> int:
        """Return what a norm keeps of the residual stream."""
        upcast = self.traits.norm == "rms" or self.setup.device == "cuda"
        return self.model.hidden_size * (4 if upcast else self.residual)

    def norms(self) -> float:
        learnt = self.learns and self.traits.norm == "rms"
        result = self.residual * self.model.hidden_size if learnt else 0
        over_stream = (self.traits.num_norms + self.attentions - 1) * (self.norm_input() + 4 + result)
        if not self.traits.head_norms:
            return over_stream
        heads = self.query + self.key_value
        return over_stream + heads * (4 + (self.setup.width if learnt else 0))

    def inputs(self) -> float:
        """Return the inputs that linear layers which learn keep, and the inner rows of adapters."""
        setup, model = self.setup, self.model
        if setup.facts.learns == "bottleneck":
            # What an adapter reads, and its inner row before and after the activation.
            return setup.width * adapters_per_block(setup) * (model.hidden_size + 2 * setup.depth.bottleneck)
        if setup.facts.learns == "scales":
            outputs, inputs = scaled_shapes(model)
            return setup.width * (sum(given for _, _, given in outputs) + sum(read for _, read, _ in inputs))
        if setup.facts.adds_tokens:
            return 0
        shapes = model.linear_shapes if self.learns else adapted_shapes(model, setup.targets)
        ranks = 0 if self.learns else setup.width * sum(setup.rank_of(name) for name, _, _ in shapes)
        # DoRA keeps the outputs of layer and adapter, to learn their length.
        ranks += 2 * setup.width * sum(given for _, _, given in shapes) if setup.variant == "dora" else 0
        masks = sum(rows for _, rows, _ in shapes) if setup.dropout and not self.learns else 0
        # The second attention has a question of its own; what it looks at is shared by all blocks.
        total = setup.width * model.hidden_size * (self.attentions - 1)
        if setup.facts.bits == 8 and setup.device == "cuda":
            # The product with 8-bit weights keeps what it read: the inputs of attention and feed-forward network.
            total += 2 * setup.width * model.hidden_size
        seen: set[str] = set()
        for shape in shapes:
            source = self.source(shape)
            if source == "attention output" and self.shares_output():
                continue
            # Autocast casts in each layer, so each keeps a narrow copy of its own.
            if source in seen and not setup.autocast:
                continue
            seen.add(source)
            total += setup.width * shape[1]
        return total + ranks + masks

    def source(self, shape: tuple[str, int, int]) -> str:
        """Return the tensor that a linear layer reads."""
        name, rows, _ = shape
        if feeds_forward(shape, self.model):
            last = rows != self.model.hidden_size or name in _LAST_OF_ALL
            if last:
                return "feed-forward product"
            return "attention input" if self.traits.parallel else "feed-forward input"
        return "attention output" if name in _LAST_OF_ATTENTION or name == "c_proj" else "attention input"

    def shares_output(self) -> bool:
        """Whether the last layer of attention reads the very tensor that the attention kernel keeps."""
        if self.setup.autocast and not self.learns:
            return False
        # The flash kernels answer in the layout of the queries, the kernels that take a mask in that of the output.
        return not self.traits.rotated_apart or (self.masked and self.setup.device == "cuda")

    def attention(self) -> float:
        return self.attentions * self.one_attention()

    def one_attention(self) -> float:
        setup, width = self.setup, self.setup.width
        # Kernels that take a mask want keys and values repeated for each query head.
        keys = self.query if self.masked or not self.fused() else self.key_value
        kept: float = width * (2 * self.query + 2 * keys)
        if self.traits.fused_projection and self.traits.rotary and keys == self.key_value:
            # The values are a part of the whole projection, which stays.
            kept += width * (self.query + self.key_value)
        if self.fused():
            # SDPA turns the shared mask into one of the arithmetic's format, in each block.
            return kept + 4 * self.model.num_heads + (width * setup.max_length if self.masked else 0)
        if self.plain_dropout():
            # The softmax, the noise of dropout and their product; what scores distances, for both sides.
            per_head = 3 * setup.max_length + 2 * self.model.distance_buckets
            return kept + width * self.model.num_heads * per_head
        # Scores: the softmax in float32, and its narrow copy for the product with the values.
        per_score = 4 + (width if width < 4 else 0) + (width if self.traits.capped_scores else 0)
        return kept + per_score * self.model.num_heads * setup.max_length

    def fused(self) -> bool:
        written_out = self.traits.capped_scores or self.traits.written_out_attention
        return self.setup.attention != "eager" and not written_out and not self.plain_dropout()

    def plain_dropout(self) -> bool:
        """Whether scores are dropped where no fused kernel can do it: on a processor, or in attention written out."""
        drops = self.traits.dropout if self.model.attention_dropout is None else self.model.attention_dropout
        unfused = self.setup.device == "cpu" or self.traits.written_out_attention
        return drops and unfused and self.setup.attention != "eager"

    def feed_forward(self) -> float:
        """Return what the activation and the gate keep; the product is an input of the last layer."""
        inner, width = self.model.intermediate_size, self.setup.width
        if self.traits.gated:
            return 3 * width * inner
        if self.traits.drops_product:
            return self.mask * inner + self.activation()
        if not self.traits.written_out_activation:
            return width * inner
        if self.setup.device == "cuda" and self.setup.autocast:
            # The power runs in float32, and so does everything after it.
            return (3 * 4 + width) * inner
        return 4 * width * inner

    def experts(self) -> float:
        model, width = self.model, self.setup.width
        if not model.num_experts:
            return 0.0
        # Rows sorted by expert, their results, and the product; routing probabilities in float32.
        chosen = model.experts_per_token
        return width * (2 * chosen * model.hidden_size + model.intermediate_size) + 8 * model.num_experts

    @property
    def mask(self) -> int:
        """Bytes of what dropout keeps of a number: one on a GPU, a number of the arithmetic on a processor."""
        return 1 if self.setup.device == "cuda" else self.setup.width

    def activation(self) -> float:
        """Return what the activation of T5 keeps, of one matrix or of two that are multiplied (`gelu_new`)."""
        gated = any(name == "wi_0" for name, _, _ in self.model.linear_shapes)
        return self.setup.width * self.model.intermediate_size * (6 if gated else 1)

    def dropout(self) -> float:
        return (1.0 + self.attentions) * self.mask * self.model.hidden_size if self.traits.dropout else 0.0

    def passing(self) -> float:
        """Return what comes and goes while a block computes its gradients."""
        inner, hidden, setup = self.model.intermediate_size, self.model.hidden_size, self.setup
        if not setup.autocast:
            wide = 8 * inner
        elif self.learns:
            wide = 4 * inner
        else:
            # PEFT widens the input of an adapter to float32 before autocast narrows it again.
            wide = 6 * inner
        streams = 10 * hidden if setup.autocast else 8 * hidden
        scores = 0 if self.fused() else 1.5 * setup.width * self.model.num_heads * setup.max_length
        return wide + streams + scores

    def evaluating(self) -> float:
        inner, hidden, width = self.model.intermediate_size, self.model.hidden_size, self.setup.width
        widened = 4 * inner if self.setup.autocast and not self.learns else 0
        scores = 0 if self.fused() else 2 * (4 + width) * self.model.num_heads * self.setup.max_length
        mask = width * self.setup.max_length if self.masked else 0
        return 3 * width * inner + widened + (4 * self.residual + 2 * width) * hidden + scores + mask
