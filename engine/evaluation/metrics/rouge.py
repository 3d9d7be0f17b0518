"""ROUGE-1, ROUGE-2 and ROUGE-L F1, averaged over rows, by Google's `rouge-score`."""

import unicodedata
from collections.abc import Sequence

import datasets
import evaluate
from rouge_score import rouge_scorer

_DESCRIPTION = "Overlap of words, word pairs and longest common subsequence (Lin 2004), F1, mean over rows."
_INPUTS = """
Args:
    predictions (list of str): Answers of the model.
    references (list of str): Expected answers.
    use_stemmer (bool): Compare English word stems; off by default.
Returns:
    rouge1, rouge2, rougeL (float): Between 0 and 1.
"""
# Thai and Lao, kana, CJK ideographs and their extensions.
_SPACELESS_BLOCKS = ((0x0E00, 0x0EFF), (0x3040, 0x30FF), (0x3400, 0x9FFF), (0x20000, 0x3FFFF))
_TYPES = ("rouge1", "rouge2", "rougeL")


class WordTokenizer:
    """Split text into lower-case words of any script.

    The scorer's own tokenizer keeps only a-z and 0-9, so that every answer in another script scores 0. This one gives
    the same words on such text; runs without spaces, as in Chinese, are cut into characters.
    """

    def tokenize(self, text: str) -> list[str]:
        """Return the words of a text."""
        words: list[str] = []
        current = ""
        for character in text.lower():
            if not (character.isalnum() or unicodedata.category(character).startswith("M")):
                words.append(current)
                current = ""
            elif _written_without_spaces(character):
                words.extend((current, character))
                current = ""
            else:
                current += character
        words.append(current)
        return [word for word in words if word]


def _written_without_spaces(character: str) -> bool:
    code = ord(character)
    return any(first <= code <= last for first, last in _SPACELESS_BLOCKS)


class Rouge(evaluate.Metric):
    """Score every row on its own and average."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string"), "references": datasets.Value("string")})
        return evaluate.MetricInfo(
            description=_DESCRIPTION, citation="", inputs_description=_INPUTS, features=features, module_type="metric"
        )

    def _compute(self, predictions: list[str], references: list[str], use_stemmer: bool = False) -> dict[str, float]:
        rows = row_rouge(predictions, references, use_stemmer=use_stemmer)
        return {name: sum(row[name] for row in rows) / len(rows) for name in _TYPES}


def row_rouge(
    predictions: Sequence[str], references: Sequence[str], *, use_stemmer: bool = False
) -> list[dict[str, float]]:
    """Return the F1 scores of every row."""
    # The scorer uses its stemmer only with its own tokenizer.
    tokenizer = None if use_stemmer else WordTokenizer()
    scorer = rouge_scorer.RougeScorer(list(_TYPES), use_stemmer=use_stemmer, tokenizer=tokenizer)
    rows = [scorer.score(reference, prediction) for prediction, reference in zip(predictions, references, strict=True)]
    return [{name: row[name].fmeasure for name in _TYPES} for row in rows]
