"""Base models that rewrite: an encoder reads a text, a decoder writes another. Numbers of each `config.json`."""

from engine.catalog.base_model_card import REWRITING, BaseModelCard, SpecialTokens, architecture_of
from engine.planning.architecture import Architecture

_T5_TOKENS = SpecialTokens(eos="</s>", pad="<pad>")
_BART_TOKENS = SpecialTokens(eos="</s>", pad="<pad>", bos="<s>", cls="<s>", sep="</s>", mask="<mask>")


def _t5(hidden: int, inner: int, layers: int, heads: int, *, gated: bool) -> Architecture:
    return architecture_of(
        "T5ForConditionalGeneration",
        "t5",
        vocab_size=32128,
        d_model=hidden,
        d_ff=inner,
        d_kv=64,
        num_layers=layers,
        num_decoder_layers=layers,
        num_heads=heads,
        feed_forward_proj="gated-gelu" if gated else "relu",
        tie_word_embeddings=not gated,
        n_positions=512,
    )


def _bart(vocab: int, hidden: int, layers: int) -> Architecture:
    return architecture_of(
        "BartForConditionalGeneration",
        "bart",
        vocab_size=vocab,
        d_model=hidden,
        encoder_layers=layers,
        decoder_layers=layers,
        encoder_attention_heads=hidden // 64,
        decoder_attention_heads=hidden // 64,
        encoder_ffn_dim=4 * hidden,
        decoder_ffn_dim=4 * hidden,
        max_position_embeddings=1024,
    )


def _rewriter(
    name: str,
    title: str,
    summary: str,
    when: str,
    when_not: str,
    *,
    licence: str,
    num_params: int,
    architecture: Architecture,
    tokens: SpecialTokens = _T5_TOKENS,
    languages: str = "English",
) -> BaseModelCard:
    return BaseModelCard(
        name,
        title,
        summary,
        when,
        when_not,
        license=licence,
        objectives=REWRITING,
        languages=languages,
        num_params=num_params,
        architecture=architecture,
        tokens=tokens,
        weights_dtype="float32",
        chat_template=False,
    )


_FIVE = "English, German, French, more"

ENCODER_DECODERS: tuple[BaseModelCard, ...] = (
    _rewriter(
        "google/flan-t5-small",
        "Flan-T5 small",
        "Small T5 that was taught 1,800 tasks as instructions.",
        "A CPU, and short texts: summaries, rewriting, pulling facts out.",
        "Texts far above 512 tokens, or free conversation.",
        licence="apache-2.0",
        num_params=76_961_152,
        architecture=_t5(512, 1024, 8, 6, gated=True),
        languages=_FIVE,
    ),
    _rewriter(
        "google/flan-t5-base",
        "Flan-T5 base",
        "T5 that was taught 1,800 tasks as instructions.",
        "A first choice for summaries and rewriting with a few thousand pairs.",
        "Texts far above 512 tokens, or free conversation.",
        licence="apache-2.0",
        num_params=247_577_856,
        architecture=_t5(768, 2048, 12, 12, gated=True),
        languages=_FIVE,
    ),
    _rewriter(
        "google/flan-t5-large",
        "Flan-T5 large",
        "The large Flan-T5.",
        "The base size is not right often enough, and there is a GPU of 12 GB or more.",
        "float16, in which T5 overflows: take bfloat16 or float32.",
        licence="apache-2.0",
        num_params=783_150_080,
        architecture=_t5(1024, 2816, 24, 16, gated=True),
        languages=_FIVE,
    ),
    _rewriter(
        "google-t5/t5-small",
        "T5 small",
        "The smallest T5, trained on English text and a few translation and summary tasks.",
        "Trials in minutes on a CPU.",
        "Quality counts: Flan-T5 of the same size follows instructions better.",
        licence="apache-2.0",
        num_params=60_506_624,
        architecture=_t5(512, 2048, 6, 8, gated=False),
        languages="English, German, French, Romanian",
    ),
    _rewriter(
        "google-t5/t5-base",
        "T5 base",
        "T5 trained on English text and a few translation and summary tasks.",
        "You want results to compare with papers.",
        "Anything new: Flan-T5 base follows instructions better.",
        licence="apache-2.0",
        num_params=222_903_552,
        architecture=_t5(768, 3072, 12, 12, gated=False),
        languages="English, German, French, Romanian",
    ),
    _rewriter(
        "google-t5/t5-large",
        "T5 large",
        "The large T5.",
        "You want results to compare with papers, and there is a GPU.",
        "Anything new: Flan-T5 large follows instructions better.",
        licence="apache-2.0",
        num_params=737_668_096,
        architecture=_t5(1024, 4096, 24, 16, gated=False),
        languages="English, German, French, Romanian",
    ),
    _rewriter(
        "facebook/bart-base",
        "BART base",
        "Encoder and decoder trained to mend damaged English text; it reads 1,024 tokens.",
        "Summaries of English texts between 512 and 1,024 tokens.",
        "Other languages, or instructions in front of the text; take Flan-T5.",
        licence="apache-2.0",
        num_params=139_420_416,
        architecture=_bart(50265, 768, 6),
        tokens=_BART_TOKENS,
    ),
    _rewriter(
        "facebook/bart-large-cnn",
        "BART large CNN",
        "BART that already summarises English news.",
        "Summaries of articles: it starts from a model that can do it.",
        "Another task than summaries; take BART base or Flan-T5.",
        licence="mit",
        num_params=406_290_432,
        architecture=_bart(50264, 1024, 12),
        tokens=_BART_TOKENS,
    ),
)
