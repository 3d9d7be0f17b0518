"""What an exported encoder says: in a padded batch as alone, of one token, beyond the cut, and by its card."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from engine.data.label_names import entity_words
from engine.data.row_encoders import encode_words
from engine.data.words import word_spans
from engine.deployment.asking import AskSession
from engine.runs.directory import RunDirectory
from tests.engine.label_rows import FILLERS, WORDS, class_rows, several_rows, tag_rows
from tests.engine.made_runs import write_rows
from tests.engine.test_export import card_code, run_here
from tests.engine.tiny_kinds import BERT, MODERNBERT, ROBERTA, save_encoder
from tests.engine.tiny_models import save_tiny_model
from tests.engine.whole_runs import finished

TEXTS = [
    "goal",
    "we had a very long day and it was all fine " * 3,
    "soup bread",
    "a",
    "red near new harbour",
    "train 5",
]
FAMILIES = (BERT, ROBERTA, MODERNBERT)
LENGTH = 24


def run_of(folder: Path, family: str, objective: str, rows: list[dict], **flat: Any) -> RunDirectory:
    """Return a finished run of few steps: enough that not every text gets the same answer."""
    base = save_tiny_model(folder / "llama") if family == "llama" else save_encoder(folder / family, family)
    made = {
        "objective": objective,
        "model": {"base": str(base)},
        "data": {"source": str(write_rows(folder / "rows.jsonl", rows))},
        "training": {"max_steps": 12, "learning_rate": 1e-2, "preflight": "off", "max_length": LENGTH},
    }
    return finished(made, folder, **({"method__name": "lora"} | flat))[0]


def long_ones(rows: list[dict], text: str, tags: str | None = None) -> list[dict]:
    """Return rows of which every fourth is far beyond the sequence length, and the next one has a single word."""
    for number, row in enumerate(rows):
        for key in filter(None, (text, tags)):
            row[key] = row[key] * 6 if number % 4 == 0 else row[key][:1] if number % 4 == 1 else row[key]
    return rows


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    rows = {family: class_rows(48) if family != BERT else several_rows(48) for family in (*FAMILIES, "llama")}
    return {family: run_of(tmp_path_factory.mktemp(family), family, "classification", rows[family]) for family in rows}


@pytest.fixture(scope="module")
def taggers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    return {
        family: run_of(
            tmp_path_factory.mktemp(family),
            family,
            "token-classification",
            long_ones(tag_rows(60), "words", "ner_tags"),
            training__max_steps=60,
        )
        for family in FAMILIES
    }


def said(session: AskSession, text: str) -> str:
    (answer,) = session.reply([{"role": "user", "content": text}])
    return answer


def after(run: RunDirectory) -> list[dict[str, str]]:
    answers: list[dict[str, str]] = json.loads((run.evaluation_folder / "after.json").read_text())["answers"]
    return answers


@pytest.mark.parametrize("family", [*FAMILIES, "llama"])
def test_a_text_has_the_same_classes_in_a_padded_batch_as_alone(
    classifiers: dict[str, RunDirectory], family: str
) -> None:
    run = classifiers[family]
    session, folder = AskSession(run.path, which="merged"), run.merged_folder
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    assert (batch["attention_mask"] == 0).any()
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    shares = logits.sigmoid() if family == BERT else logits.softmax(dim=-1)
    for text, row in zip(TEXTS, shares.tolist(), strict=True):
        alone = {line.split()[2]: float(line.split()[0]) for line in said(session, text).splitlines()}
        assert alone == {
            model.config.id2label[number]: pytest.approx(100 * share, abs=0.11) for number, share in enumerate(row)
        }, text


@pytest.mark.parametrize("family", FAMILIES)
def test_words_have_the_same_tags_in_a_padded_batch_as_alone(taggers: dict[str, RunDirectory], family: str) -> None:
    run = taggers[family]
    session, folder = AskSession(run.path, which="merged"), run.merged_folder
    model, tokenizer = AutoModelForTokenClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    for text, row in zip(TEXTS, logits, strict=True):
        words = [text[start:end] for start, end in word_spans(text)]
        ids, places = encode_words(tokenizer, words)
        if len(ids) > LENGTH:
            continue
        tags = ["O"] * len(words)
        for place, word in places.items():
            tags[word] = model.config.id2label[int(row[place].argmax())]
        assert said(session, text) == (", ".join(entity_words(words, tags)) or "no entity"), text
    assert any(said(session, text) != "no entity" for text in TEXTS)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_evaluation_in_batches_says_what_is_said_of_each_row_alone(
    taggers: dict[str, RunDirectory], family: str
) -> None:
    """Rows far beyond the sequence length and rows of one word stand among the others."""
    session, answers = AskSession(taggers[family].path, which="merged"), after(taggers[family])
    lengths = {len(answer["prompt"].split()) for answer in answers}
    assert min(lengths) == 1
    assert max(lengths) > LENGTH
    for answer in answers:
        alone = said(session, answer["prompt"]).replace("no entity", "(none)")
        assert alone == answer["text"], answer["prompt"]


def test_words_beyond_the_sequence_length_have_no_tag(taggers: dict[str, RunDirectory]) -> None:
    session = AskSession(taggers[BERT].path, which="merged")
    near, far = "red near new harbour", " ".join(FILLERS)
    assert "COLOUR" in said(session, near)
    assert "COLOUR" not in said(session, f"{far} {far} {far} {near}").replace(said(session, far), "")
    measured = json.loads((taggers[BERT].evaluation_folder / "after.json").read_text())
    assert any("beyond the sequence length" in remark for remark in measured["remarks"])


@pytest.mark.parametrize("family", [*FAMILIES, "llama"])
def test_a_text_of_one_token_has_a_class(classifiers: dict[str, RunDirectory], family: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(classifiers[family].merged_folder)
    assert len(tokenizer("a", add_special_tokens=False)["input_ids"]) == 1
    lines = said(AskSession(classifiers[family].path), "a").splitlines()
    assert {line.split()[2] for line in lines} == set(WORDS)


@pytest.mark.parametrize("family", [BERT, "llama"])
def test_texts_of_one_token_are_learnt_and_measured(tmp_path: Path, family: str) -> None:
    # A decoder reads that one token and nothing else; an encoder puts special tokens around it.
    rows = [{"text": letter, "label": "early" if letter < "e" else "late"} for letter in "abcdefgh"]
    known = {"data__held_out": str(write_rows(tmp_path / "known.jsonl", rows)), "training__max_steps": 80}
    run = run_of(tmp_path, family, "classification", rows, data__cleaning__leaked_rows="report", **known)
    measured = json.loads((run.evaluation_folder / "after.json").read_text())
    assert measured["num_rows"] == 8
    assert measured["metrics"]["accuracy"] == 1.0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["merged", "adapter"])
def test_the_card_of_a_tagger_names_what_each_word_is(
    taggers: dict[str, RunDirectory],
    family: str,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = taggers[family]
    folder = run.merged_folder if kind == "merged" else run.adapter_folder
    if kind == "adapter":
        # The card calls a base model that lies in a folder by the name of that folder.
        (folder / family).symlink_to(run.read_plan().model.base)
    code = card_code(folder)
    assert "Ada Lovelace was born in London in 1815." in code
    told = dict(line.split() for line in run_here(folder, monkeypatch, capsys).splitlines())
    assert {"Ada", "Lovelace", "was", "born", "in", "London", "1815", "."} <= set(told)
    assert set(told.values()) <= {"O", "B-COLOUR", "B-PLACE", "I-PLACE"}
    card = folder / "README.md"
    text = card.read_text()
    card.write_text(text.replace("Ada Lovelace was born in London in 1815.", "red near new harbour"))
    try:
        told = dict(line.split() for line in run_here(folder, monkeypatch, capsys).splitlines())
    finally:
        card.write_text(text)
    tags = [told[word] for word in ("red", "near", "new", "harbour")]
    named = entity_words(["red", "near", "new", "harbour"], tags)
    assert named
    assert said(AskSession(run.path, which="merged"), "red near new harbour") == ", ".join(named)
