"""Base models that read: encoders for classes, names in texts, and hidden words. Numbers of each `config.json`."""

from engine.catalog.base_model_card import UNDERSTANDING, BaseModelCard, SpecialTokens, architecture_of
from engine.planning.architecture import Architecture

_BERT_TOKENS = SpecialTokens(pad="[PAD]", cls="[CLS]", sep="[SEP]", mask="[MASK]")
_ROBERTA_TOKENS = SpecialTokens(eos="</s>", pad="<pad>", bos="<s>", cls="<s>", sep="</s>", mask="<mask>")
_HUNDRED = "100 languages"


def _bert(vocab: int, hidden: int, layers: int) -> Architecture:
    return architecture_of(
        "BertForMaskedLM",
        "bert",
        vocab_size=vocab,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=4 * hidden,
        max_position_embeddings=512,
        type_vocab_size=2,
    )


def _roberta(vocab: int, hidden: int, layers: int, *, family: str = "roberta") -> Architecture:
    return architecture_of(
        "RobertaForMaskedLM" if family == "roberta" else "XLMRobertaForMaskedLM",
        family,
        vocab_size=vocab,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=4 * hidden,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
    )


def _distilbert(vocab: int) -> Architecture:
    return architecture_of(
        "DistilBertForMaskedLM",
        "distilbert",
        vocab_size=vocab,
        dim=768,
        n_layers=6,
        n_heads=12,
        hidden_dim=3072,
        max_position_embeddings=512,
    )


def _modernbert(hidden: int, layers: int, inner: int) -> Architecture:
    return architecture_of(
        "ModernBertForMaskedLM",
        "modernbert",
        vocab_size=50368,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=inner,
        max_position_embeddings=8192,
        local_attention=128,
        global_attn_every_n_layers=3,
        tie_word_embeddings=True,
    )


def _encoder(
    name: str,
    title: str,
    summary: str,
    when: str,
    when_not: str,
    *,
    licence: str,
    num_params: int,
    architecture: Architecture,
    tokens: SpecialTokens = _BERT_TOKENS,
    languages: str = "English",
) -> BaseModelCard:
    return BaseModelCard(
        name,
        title,
        summary,
        when,
        when_not,
        license=licence,
        objectives=UNDERSTANDING,
        languages=languages,
        num_params=num_params,
        architecture=architecture,
        tokens=tokens,
        weights_dtype="float32",
        chat_template=False,
    )


ENCODERS: tuple[BaseModelCard, ...] = (
    _encoder(
        "answerdotai/ModernBERT-base",
        "ModernBERT base",
        "Encoder of 2024 that reads 8,192 tokens and knows program code.",
        "A first choice for English: abler than BERT at the same size, and quick on long texts.",
        "Other languages than English; take XLM-RoBERTa or multilingual BERT.",
        licence="apache-2.0",
        num_params=149_655_232,
        architecture=_modernbert(768, 22, 1152),
    ),
    _encoder(
        "answerdotai/ModernBERT-large",
        "ModernBERT large",
        "The larger ModernBERT.",
        "The base size is not right often enough, and there is a GPU.",
        "A CPU alone; take the base size or DistilBERT.",
        licence="apache-2.0",
        num_params=395_881_664,
        architecture=_modernbert(1024, 28, 2624),
    ),
    _encoder(
        "distilbert/distilbert-base-uncased",
        "DistilBERT base uncased",
        "BERT taught to a model of half its layers.",
        "A CPU, or many texts per second: most of BERT's accuracy at half its cost.",
        "Upper and lower case matter, as in names; take a cased model.",
        licence="apache-2.0",
        num_params=66_985_530,
        architecture=_distilbert(30522),
    ),
    _encoder(
        "google-bert/bert-base-uncased",
        "BERT base uncased",
        "The encoder that most papers compare with; it reads lower case only.",
        "You want results to compare with others, on English texts of up to 512 tokens.",
        "Names in texts, whose capitals it does not see; take the cased one.",
        licence="apache-2.0",
        num_params=109_514_298,
        architecture=_bert(30522, 768, 12),
    ),
    _encoder(
        "google-bert/bert-base-cased",
        "BERT base cased",
        "BERT that sees capitals.",
        "Names of people, places and firms in English texts.",
        "Texts longer than 512 tokens; take ModernBERT.",
        licence="apache-2.0",
        num_params=108_340_804,
        architecture=_bert(28996, 768, 12),
    ),
    _encoder(
        "google-bert/bert-large-uncased",
        "BERT large uncased",
        "The larger BERT.",
        "The base size is not right often enough, and results shall compare with papers.",
        "Anything new: ModernBERT large is abler and reads longer texts.",
        licence="apache-2.0",
        num_params=335_174_458,
        architecture=_bert(30522, 1024, 24),
    ),
    _encoder(
        "FacebookAI/roberta-base",
        "RoBERTa base",
        "BERT trained longer on ten times the text; it sees capitals.",
        "English texts of up to 512 tokens; a strong and well-tried base.",
        "Long texts, or other languages.",
        licence="mit",
        num_params=124_697_433,
        architecture=_roberta(50265, 768, 12),
        tokens=_ROBERTA_TOKENS,
    ),
    _encoder(
        "FacebookAI/roberta-large",
        "RoBERTa large",
        "The larger RoBERTa.",
        "Accuracy counts more than speed, on English texts of up to 512 tokens.",
        "A CPU alone; take the base size.",
        licence="mit",
        num_params=355_412_057,
        architecture=_roberta(50265, 1024, 24),
        tokens=_ROBERTA_TOKENS,
    ),
    _encoder(
        "distilbert/distilroberta-base",
        "DistilRoBERTa base",
        "RoBERTa taught to a model of half its layers; it sees capitals.",
        "A CPU, and capitals that matter.",
        "Accuracy counts more than speed; take RoBERTa base.",
        licence="apache-2.0",
        num_params=82_170_201,
        architecture=_roberta(50265, 768, 6),
        tokens=_ROBERTA_TOKENS,
    ),
    _encoder(
        "FacebookAI/xlm-roberta-base",
        "XLM-RoBERTa base",
        "RoBERTa for a hundred languages.",
        "Texts in other languages than English, or in several.",
        "English alone; an English model of the same size is abler there.",
        licence="mit",
        num_params=278_295_186,
        architecture=_roberta(250002, 768, 12, family="xlm-roberta"),
        tokens=_ROBERTA_TOKENS,
        languages=_HUNDRED,
    ),
    _encoder(
        "FacebookAI/xlm-roberta-large",
        "XLM-RoBERTa large",
        "The larger XLM-RoBERTa.",
        "Rare languages, or accuracy that counts more than speed.",
        "A CPU alone; take the base size.",
        licence="mit",
        num_params=560_142_482,
        architecture=_roberta(250002, 1024, 24, family="xlm-roberta"),
        tokens=_ROBERTA_TOKENS,
        languages=_HUNDRED,
    ),
    _encoder(
        "google-bert/bert-base-multilingual-cased",
        "BERT multilingual cased",
        "BERT for 104 languages.",
        "Several languages at less memory than XLM-RoBERTa takes.",
        "English alone, or rare languages, which XLM-RoBERTa knows better.",
        licence="apache-2.0",
        num_params=177_974_523,
        architecture=_bert(119547, 768, 12),
        languages="104 languages",
    ),
    _encoder(
        "distilbert/distilbert-base-multilingual-cased",
        "DistilBERT multilingual",
        "Multilingual BERT taught to a model of half its layers.",
        "Several languages on a CPU.",
        "English alone; take DistilBERT base.",
        licence="apache-2.0",
        num_params=135_445_755,
        architecture=_distilbert(119547),
        languages="104 languages",
    ),
)
