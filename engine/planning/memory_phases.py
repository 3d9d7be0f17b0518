"""Peaks of a run by phase: moments of a training step, evaluation, saving, merging. Each is a maximum, never a sum.

A moment is `{component: bytes}` of tensors that are alive together; the highest moment of a phase is its peak.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.planning.evaluation_cut import answered_rows, cached_share
from engine.planning.memory_blocks import BlockMemory, block_memory
from engine.planning.memory_setup import (
    WIDTHS,
    Setup,
    block_params,
    learning_blocks,
    linear_params,
    optimizer_bytes,
    quantized_bytes,
    trainable_params,
)
from engine.planning.profiles import ModelProfile

MIB = 2**20
TILE_TOKENS = 4096
TILE_VOCAB = 32768
"""TRL computes the output layer in tiles of this size (`trl.kernels.chunked_logprob`)."""
EVALUATION_CHUNK_BYTES = 64 * MIB
"""Float32 logits that an evaluation holds at once (`engine.evaluation.scoring`)."""
FSDP_GATHERED_BLOCKS = 2
"""FSDP holds the block in use whole, and the next one that it fetches meanwhile."""

Moment = dict[str, int]
WEIGHTS = "model weights"
CONSTANTS = "quantisation constants"
ADAPTER = "adapter"
JUDGE = "reward model"
REFERENCE = "weights as they were at the start"
COPIES = "narrow copies of weights"
GRADIENTS = "gradients"
STATES = "optimizer states"
ACTIVATIONS = "activations"
HEAD = "output layer and loss"
CACHE = "keys and values"
GATHERED = "gathered from other GPUs"
TO_DISK = "copies on their way to the disk"


def size_of(moment: Moment) -> int:
    """Return the bytes of a moment."""
    return sum(moment.values())


def highest(moments: Sequence[Moment]) -> Moment:
    """Return the moment with the most bytes, the first of equals."""
    return max(moments, key=size_of)


def phase_moments(model: ModelProfile, setup: Setup) -> dict[str, list[Moment]]:
    """Return the moments of each phase of a run that can be its highest, per GPU where several share it."""
    run = _Run(model, setup, block_memory(model, setup))
    moments = {
        "training": list(run.training()),
        "evaluation": list(run.evaluation()),
        "saving": [run.saving()],
    }
    if setup.merge and not setup.full:
        moments["merging"] = [run.merging()]
    return moments


def phase_peaks(model: ModelProfile, setup: Setup) -> dict[str, Moment]:
    """Return the highest moment of each phase of a run."""
    return {name: highest(moments) for name, moments in phase_moments(model, setup).items()}


def generation_share(model: ModelProfile, setup: Setup) -> float:
    """Return how many tokens of a generation are kept where training keeps one (`engine.planning.evaluation_cut`)."""
    return cached_share(
        hidden=model.hidden_size,
        kv_heads=model.num_kv_heads,
        head_dim=model.head_dim,
        activation_checkpointing=setup.activation_checkpointing,
    )


@dataclass(frozen=True, slots=True)
class _Run:
    model: ModelProfile
    setup: Setup
    block: BlockMemory

    @property
    def shard(self) -> int:
        """GPUs that a weight, its gradient and its states are cut over."""
        return self.setup.num_gpus if self.setup.strategy in ("fsdp", "zero3") else 1

    @property
    def tied(self) -> bool:
        """Whether the embedding is the output layer as well."""
        return self.model.tied_embeddings and gives_words(self.model)

    @property
    def embedding(self) -> int:
        return self.model.vocab_size * self.model.hidden_size

    @property
    def renewed(self) -> int:
        """Return one matrix of tokens with the rows that learn put in."""
        return _renewed(self.model, self.setup)

    def weights(self) -> Moment:
        """Return the model as it lies there between steps."""
        model, setup = self.model, self.setup
        copy = {REFERENCE: 4 * trainable_params(model, setup) // self.shard} if setup.reference else {}
        if setup.judge_bytes and setup.written:
            copy[JUDGE] = setup.judge_bytes
        if setup.full:
            return {WEIGHTS: 4 * model.num_params // self.shard, **copy}
        if setup.part:
            learnt = trainable_params(model, setup)
            return {WEIGHTS: (setup.width * (model.num_params - learnt) + 4 * learnt) // self.shard, **copy}
        if setup.facts.bits is None:
            resting = {WEIGHTS: setup.width * model.num_params // self.shard}
        else:
            rest = max(0, model.num_params - linear_params(model))
            packed, constants = quantized_bytes(model, setup.facts.bits)
            resting = {WEIGHTS: (packed + setup.width * rest) // self.shard, CONSTANTS: constants // self.shard}
        return {**resting, ADAPTER: 4 * trainable_params(model, setup) // self.shard, **copy}

    def states(self) -> int:
        return optimizer_bytes(self.setup.optimizer, trainable_params(self.model, self.setup)) // self.shard

    def gradients(self) -> int:
        """Return all gradients; with DDP those of adapters travel together, in a copy."""
        learnt = 4 * trainable_params(self.model, self.setup) // self.shard
        return 2 * learnt if self.setup.strategy == "ddp" and self.setup.facts.makes_adapter else learnt

    def gathered(self) -> int:
        """Return what a GPU holds of the others' shards for a moment."""
        if self.shard == 1:
            return 0
        width = self.setup.width if self.setup.facts.bits is None else 1
        embedding = self.embedding * (1 if self.model.tied_embeddings else 2)
        return FSDP_GATHERED_BLOCKS * width * block_params(self.model) + self.setup.width * embedding

    def copies(self) -> int:
        """Return the narrow copies that autocast makes of weights that learn, once per forward pass."""
        setup = self.setup
        if not setup.autocast:
            return 0
        learnt = linear_params(self.model) if setup.full else trainable_params(self.model, setup)
        if setup.full and setup.device == "cpu":
            learnt += self.embedding
        return setup.width * learnt // self.shard

    def kept(self) -> int:
        """Return what all blocks keep for the backward pass."""
        blocks = self.working
        if self.setup.activation_checkpointing:
            return blocks * self.block.entry
        return blocks * self.block.kept - self.block.unlearned + self.mask() if blocks else 0

    @property
    def working(self) -> int:
        """Blocks that take part in the backward pass."""
        return learning_blocks(self.model, self.setup)

    def mask(self) -> int:
        """Return the mask that all blocks share, one byte for each pair of tokens."""
        setup = self.setup
        plain = setup.attention == "flash_attention_2" or (setup.sequences == 1 and not setup.packed)
        return 0 if plain else setup.sequences * setup.max_length**2

    def resting(self, gradients: int) -> Moment:
        gathered = {GATHERED: found} if (found := self.gathered()) else {}
        return {**self.weights(), **gathered, GRADIENTS: gradients, STATES: self.states()}

    def training(self) -> Iterator[Moment]:
        """Yield the moments of a step that can be its highest."""
        setup = self.setup
        resident = self.gradients() if setup.accumulates else 0
        checkpointed = setup.activation_checkpointing
        copies = {COPIES: found} if (found := self.copies()) else {}
        held = {} if checkpointed else copies
        kept, block = self.kept(), self.block
        head = self.head()
        if setup.written:
            # The answers of a step are written before anything of it is learnt.
            yield self.generation({**self.resting(0), **copies}, setup.max_length - setup.written, setup.written)
        start = self.resting(resident)
        # Blocks below the first that learns pass as in an evaluation.
        by_the_way = block.evaluating if checkpointed or not self.working else block.passing
        yield {**start, **copies, ACTIVATIONS: kept + by_the_way}
        yield {**start, **copies, ACTIVATIONS: kept, HEAD: head.forward}
        backward = {**start, **held, ACTIVATIONS: kept, HEAD: head.backward}
        yield backward
        # The topmost block goes backward: the gradient of the output layer is there, the other ones are not.
        first = max(resident, head.gradient)
        if not self.working:
            yield {**self.resting(self.gradients()), ACTIVATIONS: 0, HEAD: 0}
            return
        yield {**self.resting(first), **held, ACTIVATIONS: kept + self.recomputed(), HEAD: 0}
        # The lowest block: hardly any activations are left, and only its own gradients and those below are missing.
        late = self.gradients() if setup.accumulates or not setup.full else self.gradients() - self.last_gradients()
        yield {**self.resting(late + self.widest()), ACTIVATIONS: block.kept + block.entry + block.passing, HEAD: 0}
        yield {**self.resting(self.gradients() + self.embedding_gradient()), ACTIVATIONS: block.entry, HEAD: 0}
        yield {**self.resting(self.gradients()), ACTIVATIONS: 0, HEAD: 0}

    def last_gradients(self) -> int:
        """Return the gradients that a full step makes last: of the lowest block, and of an embedding of its own."""
        below = 0 if self.tied else self.embedding
        return 4 * (block_params(self.model) + below) // self.shard

    def embedding_gradient(self) -> int:
        """Return what the embedding's gradient takes for a moment beside the gradients that stay.

        It is made whole before it is added to one that is there. Tied to the output layer, autograd first adds up the
        gradients of both uses in a third tensor.
        """
        if not self.setup.full:
            # Rows of new tokens pick their gradient out of one of the whole matrix.
            return self.renewed
        if self.tied:
            return 4 * self.embedding * (3 if self.setup.accumulates else 2)
        return 4 * self.embedding if self.setup.accumulates else 0

    def recomputed(self) -> int:
        """Return what the block at work needs on top of what all blocks keep."""
        if not self.setup.activation_checkpointing:
            return self.block.passing + self.widest()
        learns = self.setup.full or self.setup.part
        copies = self.setup.width * block_params(self.model) if learns and self.setup.autocast else 0
        return self.block.kept + self.block.passing + copies + self.widest()

    def widest(self) -> int:
        """Return what the widest linear layer takes for a moment: its gradient, or itself unpacked from 4 bits."""
        most = max((rows * columns for _, rows, columns in self.model.linear_shapes), default=0)
        if self.setup.facts.bits is not None:
            return self.setup.width * most
        if self.setup.full:
            return (4 + (self.setup.width if self.setup.autocast else 0)) * most
        return 0

    def head(self) -> "_Head":
        if not gives_words(self.model):
            return _class_head(self.model, self.setup)
        # TRL's trainers that learn from rewards have the fused head on every device.
        on_gpu = self.setup.device == "cuda" and self.model.head in (None, "causal-lm") and not self.setup.smoothed
        fused = on_gpu or self.setup.written > 0
        return _fused_head(self.model, self.setup) if fused else _plain_head(self.model, self.setup)

    def evaluation(self) -> Iterator[Moment]:
        """Yield the moments of an evaluation: it runs without gradients, and finds the optimizer's states there."""
        setup, model = self.setup, self.model
        prompts = [setup.max_length]
        if setup.examples:
            # Where the examples of the baseline make a row longer than a batch, it is a batch of its own.
            prompts.append(min(setup.max_length + setup.examples, model.context_length))
        tokens = max(setup.tokens, *prompts)
        copies = {COPIES: self.copies() + (setup.width * self.embedding if setup.full else 0)} if self.copies() else {}
        base = {**self.resting(0), **copies}
        hidden = tokens * model.hidden_size * (4 if setup.full else setup.width)
        # Logits in the arithmetic's format and in float32, and their log-softmax.
        outputs = model.vocab_size if gives_words(model) else model.num_labels
        chunk = min(EVALUATION_CHUNK_BYTES, 4 * tokens * outputs)
        renewed = self.renewed if gives_words(model) else 0
        yield {**base, ACTIVATIONS: self.reading(tokens) + self.mask(), HEAD: 0}
        yield {**base, ACTIVATIONS: 2 * hidden, HEAD: max(3 * chunk, renewed + chunk * setup.width // 4)}
        if setup.generate:
            yield from (self.generation(base, prompt, setup.generate) for prompt in prompts)
        if setup.judge_bytes and not setup.written:
            # Loaded when the answers are written, and asked about a few of them at a time.
            yield {**base, JUDGE: setup.judge_bytes, ACTIVATIONS: self.reading(tokens) + self.mask(), HEAD: 0}

    def reading(self, tokens: int) -> int:
        """Return what a block needs to read so many tokens without gradients."""
        return round(tokens / self.setup.tokens * self.block.evaluating)

    def generation(self, base: Moment, prompt: int, written: int) -> Moment:
        """Return the moment when prompts have been read: their keys and values, and one block at work."""
        setup, model = self.setup, self.model
        rows = answered_rows(setup.tokens, prompt, written, generation_share(model, setup))
        length = prompt + written
        cache = 2 * model.num_layers * model.num_kv_heads * model.head_dim * setup.width * rows * length
        logits = rows * model.vocab_size * (4 + setup.width)
        # The matrix of the output layer is renewed when the blocks have done their work.
        working = max(self.reading(rows * prompt), self.renewed)
        return {**base, ACTIVATIONS: working, CACHE: cache, HEAD: logits}

    def saving(self) -> Moment:
        """Return what lies there while a checkpoint is written: first the weights that learn, then the states.

        Both are copied to host memory, which on a processor is the memory that counts.
        """
        if self.setup.device == "cuda":
            return {**self.resting(0), ACTIVATIONS: 0, HEAD: 0}
        learnt = 4 * trainable_params(self.model, self.setup)
        return {**self.resting(0), ACTIVATIONS: 0, HEAD: 0, TO_DISK: max(learnt, self.states())}

    def merging(self) -> Moment:
        """Return what merging an adapter needs; a quantised base is loaded again, in the format of the arithmetic."""
        model, setup = self.model, self.setup
        base = self.weights()
        if setup.facts.bits is not None:
            base[WEIGHTS] += setup.width * model.num_params
        widest = max((rows * columns for _, rows, columns in model.linear_shapes), default=0)
        # `safe_merge` works on a copy of the weight and adds a float32 product to it. A matrix with new rows is copied
        # whole, and looked at with its absolute values and two masks.
        checked = (2 * setup.width + 2) * self.embedding if setup.new_tokens else 0
        moment = {**base, ACTIVATIONS: max((8 + setup.width) * widest, checked), HEAD: 0}
        if setup.device == "cpu":
            stored = min(setup.width, WIDTHS.get(model.weights_dtype, 4))
            moment[TO_DISK] = stored * model.num_params
        return moment


@dataclass(frozen=True, slots=True)
class _Head:
    """Bytes of the output layer and the loss: in the forward pass, in the backward pass, and of its gradient."""

    forward: int
    backward: int
    gradient: int


def gives_words(model: ModelProfile) -> bool:
    """Return whether the head of a model gives a number for each word of the vocabulary."""
    return model.head not in ("sequence-classification", "token-classification")


def _class_head(model: ModelProfile, setup: Setup) -> "_Head":
    """A few labels: the last states, copied once or twice, and numbers for each label."""
    kept = setup.tokens * (2 * setup.width * model.hidden_size + 8 * model.num_labels)
    return _Head(kept, kept + 4 * setup.tokens * model.hidden_size, 0)


def _head_learns(model: ModelProfile, setup: Setup) -> bool:
    """Return whether an output layer as large as the vocabulary learns."""
    return setup.full or (setup.part and not (model.tied_embeddings or setup.depth.head_is_new))


def _renewed(model: ModelProfile, setup: Setup) -> int:
    """Return one matrix of tokens with the rows that learn put in; 0 where no new token has rows.

    PEFT 0.21 copies the whole matrix each time that it is read (`TrainableTokensLayer.get_merged_weights`).
    """
    return setup.width * model.vocab_size * model.hidden_size if setup.new_tokens else 0


def _fused_head(model: ModelProfile, setup: Setup) -> _Head:
    """TRL's head: tiles of logits, made again in the backward pass (`trl.kernels.chunked_logprob`)."""
    tokens, hidden = setup.tokens, model.hidden_size
    tile = min(tokens, TILE_TOKENS) * TILE_VOCAB * setup.width
    stream = 4 if setup.full else setup.width
    # The last norm keeps its input, in full fine-tuning also its result; the trained rows are copied out.
    learns = _head_learns(model, setup)
    kept = tokens * hidden * (4 + (stream if setup.full or setup.part else 0) + stream)
    gradient = 4 * model.vocab_size * hidden if learns else 0
    narrow = 0
    if learns and setup.autocast:
        narrow = setup.width * hidden * (min(TILE_VOCAB, model.vocab_size) + min(tokens, TILE_TOKENS))
    backward = max(kept + 4 * tokens * hidden + tile + narrow, tokens * hidden * (24 if setup.autocast else 16))
    copied = _renewed(model, setup)
    if copied:
        # The gradient of the copy is summed up in float32 and then made as narrow as the copy.
        backward += copied + 4 * model.vocab_size * hidden + (copied if setup.autocast else 0)
    return _Head(kept + tile + narrow + copied, backward + gradient, gradient)


def _plain_head(model: ModelProfile, setup: Setup) -> _Head:
    """Cross entropy over all logits: the logits, their float32 copy, the log-softmax, and two gradients of it."""
    tokens, hidden, width = setup.tokens, model.hidden_size, setup.width
    logits = tokens * model.vocab_size
    learns = _head_learns(model, setup)
    stream = 4 if setup.full else width
    kept = tokens * hidden * (4 + (stream if setup.full or setup.part else 0) + (width if learns else 0))
    forward = logits * (8 + (width if width < 4 else 0))
    gradient = 4 * model.vocab_size * hidden if learns else 0
    copied = _renewed(model, setup)
    # The gradient of the copy is made when of all logits one gradient is left.
    backward = max(12 * logits + copied, width * logits + 2 * copied) if copied else 12 * logits
    return _Head(kept + forward + copied, kept + backward, gradient)
