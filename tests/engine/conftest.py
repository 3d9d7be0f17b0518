"""Fixtures of the engine tests: tiny models on one CPU thread, without a network."""

import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from huggingface_hub import constants

from engine.models import hub_files, hub_listing
from tests.engine.made_hub import TOKEN, Hub, Served, point_at, read_folder, serve_hub
from tests.engine.tiny_models import save_tiny_model


@pytest.fixture(scope="session", autouse=True)
def _home_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep runs of tests from teaching the calibration of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTWIZARD_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a tiny Llama and its tokenizer, made once; do not write into it."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub without models, reached by this process, and an empty cache."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_files, "RETRY_WAITS_S", (0.0, 0.0))
    monkeypatch.setattr(hub_listing, "ASK_WAITS_S", (0.0, 0.0))
    with serve_hub() as served:
        point_at(served.url, monkeypatch)
        yield served


@pytest.fixture
def model(hub: Hub, tiny_model_folder: Path) -> Served:
    """A tiny model on the hub, with a pickle, code and a second copy of the weights beside what is wanted."""
    files = read_folder(tiny_model_folder) | {
        "pytorch_model.bin": b"never fetched",
        "modeling_made.py": b"raise SystemExit",
        "consolidated.safetensors": b"another layout",
        "onnx/model.safetensors": b"another one",
        "README.md": b"# made",
    }
    hub.models["made/model"] = Served(files)
    return hub.models["made/model"]
