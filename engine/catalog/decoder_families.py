"""Families of decoders: what all sizes of one have in common, by each published `config.json`."""

from dataclasses import replace

from engine.catalog.base_model_card import READING, BaseModelCard, SpecialTokens, decoder
from engine.planning.architecture import Architecture

QWEN = SpecialTokens(eos="<|im_end|>", pad="<|endoftext|>")
QWEN_BASE = SpecialTokens(eos="<|endoftext|>", pad="<|endoftext|>")
SMOL = SpecialTokens(bos="<|im_start|>", eos="<|im_end|>", pad="<|im_end|>")
SMOL_BASE = SpecialTokens(bos="<|endoftext|>", eos="<|endoftext|>")
LLAMA = SpecialTokens(bos="<|begin_of_text|>", eos="<|eot_id|>")
GEMMA = SpecialTokens(bos="<bos>", eos="<eos>", pad="<pad>")
SENTENCEPIECE = SpecialTokens(bos="<s>", eos="</s>")
MANY = "Many"
EIGHT = "8 European and Asian"


def qwen3(hidden: int, layers: int, heads: int, inner: int, *, tied: bool = True, context: int = 40960) -> Architecture:
    """Return the sizes of a Qwen3."""
    return decoder(
        "Qwen3ForCausalLM",
        "qwen3",
        vocab=151936,
        hidden=hidden,
        layers=layers,
        heads=(heads, 8),
        head_dim=128,
        inner=inner,
        context=context,
        tied=tied,
    )


def qwen2(hidden: int, layers: int, heads: tuple[int, int], inner: int, *, vocab: int = 151936) -> Architecture:
    """Return the sizes of a Qwen2.5; with the larger vocabulary the output layer is one of its own."""
    return decoder(
        "Qwen2ForCausalLM",
        "qwen2",
        vocab=vocab,
        hidden=hidden,
        layers=layers,
        heads=heads,
        inner=inner,
        context=32768,
        tied=vocab == 151936,
    )


def smollm2(hidden: int, layers: int, heads: tuple[int, int], inner: int) -> Architecture:
    """Return the sizes of a SmolLM2."""
    return decoder(
        "LlamaForCausalLM",
        "llama",
        vocab=49152,
        hidden=hidden,
        layers=layers,
        heads=heads,
        head_dim=64,
        inner=inner,
        context=8192,
    )


def llama3(hidden: int, layers: int, heads: int, inner: int, head_dim: int, *, tied: bool = True) -> Architecture:
    """Return the sizes of a Llama 3."""
    return decoder(
        "LlamaForCausalLM",
        "llama",
        vocab=128256,
        hidden=hidden,
        layers=layers,
        heads=(heads, 8),
        head_dim=head_dim,
        inner=inner,
        context=131072,
        tied=tied,
    )


def gemma3(hidden: int, layers: int, inner: int) -> Architecture:
    """Return the sizes of a Gemma 3 for text."""
    return decoder(
        "Gemma3ForCausalLM",
        "gemma3_text",
        vocab=262144,
        hidden=hidden,
        layers=layers,
        heads=(4, 1),
        head_dim=256,
        inner=inner,
        context=32768,
    )


def pythia(hidden: int, layers: int, heads: int) -> Architecture:
    """Return the sizes of a Pythia."""
    return decoder(
        "GPTNeoXForCausalLM",
        "gpt_neox",
        vocab=50304,
        hidden=hidden,
        layers=layers,
        heads=(heads, heads),
        inner=4 * hidden,
        context=2048,
        tied=False,
    )


def only_reads(chat: BaseModelCard, name: str, title: str, summary: str, tokens: SpecialTokens) -> BaseModelCard:
    """Return the card of the model that a chat model was made from: the same sizes, before it learned to answer."""
    return replace(
        chat,
        name=name,
        title=title,
        summary=summary,
        when="Plain text to go on reading, or a task of your own with thousands of rows.",
        when_not="Few rows, or instructions that it must follow; take the chat model of this size.",
        objectives=READING,
        tokens=tokens,
        chat_template=False,
    )
