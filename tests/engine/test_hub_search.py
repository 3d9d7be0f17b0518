"""Search on the hub, against a hub on loopback: what suits, what hostile answers become, and why nothing came."""

import os
import subprocess
import sys
from typing import Any

import pytest
from huggingface_hub import constants

from engine.inspection import FUNCTIONS
from engine.models.hub_search import MOST_FOUND, search_hub
from engine.recipe.problems import ProblemError
from tests.engine.made_hub import TOKEN, Hub


def entry(name: str, class_name: str = "LlamaForCausalLM", family: str = "llama", **more: Any) -> dict[str, Any]:
    config = {"architectures": [class_name], "model_type": family, **more.pop("config", {})}
    return {"id": name, "config": config, "tags": ["safetensors", "license:apache-2.0"], "downloads": 5, **more}


def names(words: str = "x", objective: str = "chat") -> list[str]:
    return [model["reference"] for model in search_hub(words, objective)["models"]]


def test_a_search_asks_for_text_models_with_safetensors_and_says_what_it_found(hub: Hub):
    card = {"language": ["en", "de"]}
    hub.found = [entry("made/one", safetensors={"total": 4321}, cardData=card, gated="auto", downloads=77)]
    assert search_hub("  tiny stories ", "chat") == {
        "models": [
            {
                "reference": "made/one",
                "num_params": 4321,
                "licence": "apache-2.0",
                "languages": "en, de",
                "gated": True,
                "downloads": 77,
            }
        ],
        "left_out": 0,
    }
    (asked,) = hub.searches
    assert asked["search"] == ["tiny stories"]
    assert set(asked["filter"]) == {"safetensors", "transformers"}
    assert asked["pipeline_tag"] == ["text-generation"]
    assert hub.requests[0][2] == f"Bearer {TOKEN}"


def test_only_models_that_the_objective_trains_are_shown(hub: Hub):
    hub.found = [
        entry("made/decoder"),
        entry("made/encoder", "BertForMaskedLM", "bert"),
        entry("made/t5", "T5ForConditionalGeneration", "t5"),
        entry("made/vision", "ViTForImageClassification", "vit"),
        entry("made/pictures", "LlavaForConditionalGeneration", "llava"),
        entry("made/unheard", "ZetaForCausalLM", "zeta"),
        entry("made/packed", config={"quantization_config": {"bits": 4}}),
    ]
    found = search_hub("made", "chat")
    assert [model["reference"] for model in found["models"]] == ["made/decoder"]
    assert found["left_out"] == 6
    assert names("made", "classification") == ["made/decoder", "made/encoder"]
    assert "pipeline_tag" not in hub.searches[-1]


@pytest.mark.parametrize(
    "hostile",
    [
        None,
        "text",
        {"id": None},
        {"id": "no-owner", "config": {"model_type": "llama"}},
        {"id": "bad/\x1b[2Jname", "config": {"model_type": "llama"}},
        {"id": "../../etc/passwd", "config": {"model_type": "llama"}},
        {"id": "made/ok", "config": None},
        {"id": "made/ok", "config": {"model_type": ["llama"], "architectures": "x"}},
        {"id": "made/ok", "config": {"architectures": [7], "model_type": 7}},
    ],
)
def test_entries_that_are_no_models_are_left_out(hub: Hub, hostile: Any):
    hub.found = [hostile, entry("made/real")]
    assert names() == ["made/real"]


def test_hostile_words_in_an_answer_become_plain(hub: Hub):
    tags = ["license:\x1b[31mevil\u202e" + "x" * 999, 7, None]
    hub.found = [
        entry("made/x", tags=tags, downloads="many", safetensors={"total": -5}, cardData={"language": [1, "\x07de"]})
    ]
    (model,) = search_hub("x", "chat")["models"]
    assert len(model["licence"]) <= 24
    assert not {"\x1b", "\u202e", "\x07"} & set(model["licence"] + model["languages"])
    assert (model["downloads"], model["num_params"]) == (0, 0)


def test_a_long_answer_is_cut_and_long_questions_too(hub: Hub):
    hub.found = [entry(f"made/m{number}") for number in range(200)]
    assert len(names("w" * 5000)) == MOST_FOUND
    assert len(hub.searches[0]["search"][0]) <= 100


@pytest.mark.parametrize("error", [(500, "", "Broken"), (404, "", "Gone"), (401, "", "Invalid credentials in header")])
def test_a_refusal_is_told_with_what_to_do(hub: Hub, error: tuple[int, str, str]):
    hub.search_error = error
    with pytest.raises(ProblemError) as caught:
        search_hub("x", "chat")
    problem = caught.value.problems[0]
    assert problem.code == "model.search_failed"
    assert "owner/name" in problem.fix
    assert TOKEN not in str(caught.value)


def test_a_page_that_is_no_hub_is_told(hub: Hub):
    hub.found = {"login": "please"}
    with pytest.raises(ProblemError, match="no model hub"):
        search_hub("x", "chat")


def test_no_connection_is_told(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ProblemError) as caught:
        search_hub("x", "chat")
    assert caught.value.problems[0].code == "model.search_failed"


def test_offline_it_says_so_and_asks_nobody(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ProblemError, match="switched off") as caught:
        search_hub("x", "chat")
    assert caught.value.problems[0].code == "model.search_offline"
    assert hub.requests == []


def test_the_helper_answers_searches_and_imports_the_client_for_them_only():
    assert "search_hub" in FUNCTIONS
    code = "import sys, engine.inspection; print([name for name in sys.modules if name.startswith('huggingface_hub')])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert shown.stdout.strip() == "[]"
