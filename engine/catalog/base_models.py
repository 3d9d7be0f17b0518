"""Base models that the wizard offers: real small instruct models first, then the one that works everywhere.

Numbers are those of each model's published `config.json`; a test holds the counted weights against the published
counts. Any other hub id or folder can be typed in: this list is advice, not a limit.
"""

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from engine.catalog.builtin import BUILTIN_MODEL, builtin_path
from engine.planning.architecture import Architecture
from engine.planning.architectures import read_architecture

if TYPE_CHECKING:
    from engine.planning.profiles import ModelProfile


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Tokens that frame texts: end of an answer, filling of a batch, front of a text; None when there is none."""

    eos: str | None = None
    pad: str | None = None
    bos: str | None = None


@dataclass(frozen=True, slots=True)
class BaseModelCard:
    """One base model to start from.

    Attributes:
        name: What a recipe says: hub id or `builtin:starter`.
        title: Words for lists.
        summary: What it is, one sentence.
        when: When to take it.
        when_not: When another one is better.
        license: Licence name as its card spells it.
        gated: The hub asks for an account that accepted the licence.
        num_params: Number of weights as published; tied weights count once. None for the starter model.
        architecture: Numbers of its configuration; None for the starter model, whose folder is at hand.
        tokens: Special tokens of its tokenizer.
    """

    name: str
    title: str
    summary: str
    when: str
    when_not: str
    license: str
    gated: bool = False
    num_params: int | None = None
    architecture: Architecture | None = None
    tokens: SpecialTokens = SpecialTokens()

    @property
    def builtin(self) -> bool:
        """Whether it is shipped with ftwizard and needs no download."""
        return self.name == BUILTIN_MODEL

    @property
    def profile(self) -> "ModelProfile":
        """Facts for a plan, without any download.

        Raises:
            ProblemError: The starter model is missing from this installation.
        """
        return _profile(self)


# The import of pydantic waits until a plan is made: a list of models must not pay for it.
@cache
def _profile(card: BaseModelCard) -> "ModelProfile":
    from engine.planning.model_folder import describe, profile_folder

    if card.architecture is None:
        return profile_folder(builtin_path(card.name), base=card.name)
    return describe(
        card.architecture,
        base=card.name,
        weights_dtype="bfloat16",
        has_chat_template=True,
        eos_token=card.tokens.eos,
        pad_token=card.tokens.pad,
        bos_token=card.tokens.bos,
    )


def _decoder(
    class_name: str,
    model_type: str,
    *,
    vocab: int,
    hidden: int,
    layers: int,
    heads: tuple[int, int],
    head_dim: int,
    inner: int,
    context: int,
    tied: bool = True,
) -> Architecture:
    """Return an architecture from the numbers of a `config.json`; `heads` are those of queries and of keys."""
    return read_architecture(
        {
            "architectures": [class_name],
            "model_type": model_type,
            "vocab_size": vocab,
            "hidden_size": hidden,
            "num_hidden_layers": layers,
            "num_attention_heads": heads[0],
            "num_key_value_heads": heads[1],
            "head_dim": head_dim,
            "intermediate_size": inner,
            "max_position_embeddings": context,
            "tie_word_embeddings": tied,
        }
    )


def _qwen3(hidden: int, layers: int, heads: int, inner: int, *, tied: bool = True) -> Architecture:
    return _decoder(
        "Qwen3ForCausalLM",
        "qwen3",
        vocab=151936,
        hidden=hidden,
        layers=layers,
        heads=(heads, 8),
        head_dim=128,
        inner=inner,
        context=40960,
        tied=tied,
    )


def _qwen2(hidden: int, layers: int, heads: int, head_dim: int, inner: int) -> Architecture:
    return _decoder(
        "Qwen2ForCausalLM",
        "qwen2",
        vocab=151936,
        hidden=hidden,
        layers=layers,
        heads=(heads, 2),
        head_dim=head_dim,
        inner=inner,
        context=32768,
    )


def _smollm2(hidden: int, layers: int, heads: int, kv_heads: int, inner: int) -> Architecture:
    return _decoder(
        "LlamaForCausalLM",
        "llama",
        vocab=49152,
        hidden=hidden,
        layers=layers,
        heads=(heads, kv_heads),
        head_dim=64,
        inner=inner,
        context=8192,
    )


_CHATML_QWEN = SpecialTokens(eos="<|im_end|>", pad="<|endoftext|>")
_CHATML_SMOL = SpecialTokens(bos="<|im_start|>", eos="<|im_end|>", pad="<|im_end|>")

BASE_MODELS: tuple[BaseModelCard, ...] = (
    BaseModelCard(
        name="Qwen/Qwen3-0.6B",
        title="Qwen3 0.6B",
        summary="Small multilingual chat model, able for its size.",
        when="A first real run: it fits nearly every GPU and trains on a patient CPU.",
        when_not="Hard reasoning or much knowledge; take a larger one.",
        license="apache-2.0",
        num_params=596_049_920,
        architecture=_qwen3(1024, 28, 16, 3072),
        tokens=_CHATML_QWEN,
    ),
    BaseModelCard(
        name="Qwen/Qwen2.5-0.5B-Instruct",
        title="Qwen2.5 0.5B Instruct",
        summary="Small multilingual chat model without a thinking mode.",
        when="Short plain answers are wanted, and nothing that looks like thinking aloud.",
        when_not="The newer Qwen3 0.6B serves as well; it is a little abler.",
        license="apache-2.0",
        num_params=494_032_768,
        architecture=_qwen2(896, 24, 14, 64, 4864),
        tokens=_CHATML_QWEN,
    ),
    BaseModelCard(
        name="HuggingFaceTB/SmolLM2-135M-Instruct",
        title="SmolLM2 135M Instruct",
        summary="Very small English chat model.",
        when="No GPU, or a trial of data and settings in minutes.",
        when_not="Other languages than English, or answers that must be right.",
        license="apache-2.0",
        num_params=134_515_008,
        architecture=_smollm2(576, 30, 9, 3, 1536),
        tokens=_CHATML_SMOL,
    ),
    BaseModelCard(
        name="HuggingFaceTB/SmolLM2-360M-Instruct",
        title="SmolLM2 360M Instruct",
        summary="Small English chat model.",
        when="English only, on a CPU or a small GPU.",
        when_not="Other languages than English.",
        license="apache-2.0",
        num_params=361_821_120,
        architecture=_smollm2(960, 32, 15, 5, 2560),
        tokens=_CHATML_SMOL,
    ),
    BaseModelCard(
        name="meta-llama/Llama-3.2-1B-Instruct",
        title="Llama 3.2 1B Instruct",
        summary="Small chat model with a very long context.",
        when="You know the Llama family, or your runtime wants it.",
        when_not="You have no hub account: its licence must be accepted there first.",
        license="llama3.2",
        gated=True,
        num_params=1_235_814_400,
        architecture=_decoder(
            "LlamaForCausalLM",
            "llama",
            vocab=128256,
            hidden=2048,
            layers=16,
            heads=(32, 8),
            head_dim=64,
            inner=8192,
            context=131072,
            tied=True,
        ),
        tokens=SpecialTokens(bos="<|begin_of_text|>", eos="<|eot_id|>"),
    ),
    BaseModelCard(
        name="Qwen/Qwen2.5-1.5B-Instruct",
        title="Qwen2.5 1.5B Instruct",
        summary="Multilingual chat model for a GPU of 8 GB and more.",
        when="0.5 billion weights are too few, and plain answers are wanted.",
        when_not="The newer Qwen3 1.7B serves as well; it is abler.",
        license="apache-2.0",
        num_params=1_543_714_304,
        architecture=_qwen2(1536, 28, 12, 128, 8960),
        tokens=_CHATML_QWEN,
    ),
    BaseModelCard(
        name="Qwen/Qwen3-1.7B",
        title="Qwen3 1.7B",
        summary="Multilingual chat model for a GPU of 8 GB and more.",
        when="A good middle: able, and quick to train with LoRA.",
        when_not="A CPU alone; take a model below one billion weights.",
        license="apache-2.0",
        num_params=1_720_574_976,
        architecture=_qwen3(2048, 28, 16, 6144),
        tokens=_CHATML_QWEN,
    ),
    BaseModelCard(
        name="Qwen/Qwen3-4B",
        title="Qwen3 4B",
        summary="Multilingual chat model for a GPU of 16 GB and more.",
        when="LoRA on 16 to 24 GB, or QLoRA on 8 to 12 GB.",
        when_not="Less memory than that.",
        license="apache-2.0",
        num_params=4_022_468_096,
        architecture=_qwen3(2560, 36, 32, 9728),
        tokens=_CHATML_QWEN,
    ),
    BaseModelCard(
        name="mistralai/Mistral-7B-Instruct-v0.3",
        title="Mistral 7B Instruct v0.3",
        summary="Widely used chat model, strong in European languages.",
        when="QLoRA on one 24 GB card; many runtimes and adapters know it.",
        when_not="You want system prompts or Asian languages; Qwen3 8B does better.",
        license="apache-2.0",
        num_params=7_248_023_552,
        architecture=_decoder(
            "MistralForCausalLM",
            "mistral",
            vocab=32768,
            hidden=4096,
            layers=32,
            heads=(32, 8),
            head_dim=128,
            inner=14336,
            context=32768,
            tied=False,
        ),
        tokens=SpecialTokens(bos="<s>", eos="</s>"),
    ),
    BaseModelCard(
        name="Qwen/Qwen3-8B",
        title="Qwen3 8B",
        summary="Able multilingual chat model.",
        when="QLoRA on one 24 GB card, or LoRA on 40 GB and more.",
        when_not="Less memory than that.",
        license="apache-2.0",
        num_params=8_190_735_360,
        architecture=_qwen3(4096, 36, 32, 12288, tied=False),
        tokens=_CHATML_QWEN,
    ),
    BaseModelCard(
        name=BUILTIN_MODEL,
        title="Starter model",
        summary="Tiny model shipped with ftwizard; trains in minutes on two CPU cores, without any download.",
        when="To see the whole way once, or to try a recipe before it costs anything.",
        when_not="Real work: it knows next to nothing of the world.",
        license="apache-2.0",
    ),
)


def find_base_model(name: str) -> BaseModelCard | None:
    """Return the card of a base model, or None when the catalogue does not know it."""
    return next((card for card in BASE_MODELS if card.name == name), None)
