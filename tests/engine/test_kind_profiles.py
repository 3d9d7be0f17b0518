"""Real folders of encoders and of encoders with a decoder: what the plan reads is what transformers loads."""

import json
from pathlib import Path

import pytest
import transformers
from transformers import AutoConfig, PreTrainedModel

from engine.models.hub import profile_model
from engine.planning.heads import with_head
from engine.planning.model_findings import model_findings
from engine.planning.model_profile import read_model_profile
from engine.planning.profiles import DataProfile
from tests.engine.kind_tokenizers import byte_level, unigram, wordpiece
from tests.engine.made_hub import Hub, Served, read_folder

MAKERS = {"bert": wordpiece, "roberta": byte_level, "t5": unigram}
CLASSES = {"bert": "BertForMaskedLM", "roberta": "RobertaForMaskedLM", "t5": "T5ForConditionalGeneration"}
LABELS = [f"label {number}" for number in range(7)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with tokenizer, configuration and random weights, as `save_pretrained` writes them."""
    made: dict[str, Path] = {}
    for family, make in MAKERS.items():
        folder = make(tmp_path_factory.mktemp(family))
        config = AutoConfig.from_pretrained(folder)
        getattr(transformers, CLASSES[family])(config).save_pretrained(folder)
        made[family] = folder
    return made


def num_weights(model: PreTrainedModel) -> int:
    return sum({id(weight): weight.numel() for weight in model.parameters()}.values())


@pytest.mark.parametrize("family", MAKERS)
def test_a_folder_is_counted_as_it_is_loaded(folders: dict[str, Path], family: str) -> None:
    profile = read_model_profile(str(folders[family]))
    assert profile.kind == ("encoder-decoder" if family == "t5" else "encoder")
    assert profile.counted
    assert profile.num_params == num_weights(getattr(transformers, CLASSES[family]).from_pretrained(folders[family]))
    assert [finding.code for finding in profile.findings] == []


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_classifier_is_counted_with_the_labels_of_the_data(folders: dict[str, Path], family: str) -> None:
    data = DataProfile(format="text_label", labels=LABELS)
    headed = with_head(read_model_profile(str(folders[family])), "classification", data)
    stem = CLASSES[family].removesuffix("ForMaskedLM")
    loaded = getattr(transformers, f"{stem}ForSequenceClassification").from_pretrained(
        folders[family], num_labels=len(LABELS)
    )
    assert headed.num_params == num_weights(loaded)
    assert list(model_findings(headed, "classification")) == []


def test_an_encoder_of_the_hub_is_read_before_its_weights(hub: Hub, folders: dict[str, Path]) -> None:
    hub.models["made/bert"] = Served(read_folder(folders["bert"]), safetensors={"F32": 123_456})
    profile = profile_model("made/bert")
    local = read_model_profile(str(folders["bert"]))
    assert profile.kind == "encoder"
    # The hub counts what is stored; what is loaded follows from the configuration.
    assert profile.num_params == local.num_params
    assert (profile.cls_token, profile.sep_token, profile.mask_token) == ("[CLS]", "[SEP]", "[MASK]")
    assert [finding.code for finding in model_findings(profile, "chat")] == [
        "model.not_downloaded",
        "model.kind_unsuited",
    ]


def test_a_family_without_a_reader_is_known_by_its_class(tmp_path: Path) -> None:
    config = AutoConfig.for_model(
        "electra", vocab_size=60, embedding_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    transformers.ElectraForMaskedLM(config).save_pretrained(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["architectures"] == ["ElectraForMaskedLM"]
    profile = read_model_profile(str(tmp_path))
    assert (profile.kind, profile.counted) == ("encoder", False)
    assert "model.no_tokenizer" in [finding.code for finding in profile.findings]
    headed = with_head(profile, "classification")
    assert headed.head == "sequence-classification"
    assert headed.num_params < profile.num_params  # the head for words is gone
