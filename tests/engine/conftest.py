"""Fixtures of the engine tests: tiny models on one CPU thread, without a network."""

import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from tests.engine.tiny_models import save_tiny_model


@pytest.fixture(scope="session")
def tiny_model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a tiny Llama and its tokenizer, made once; do not write into it."""
    return save_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
