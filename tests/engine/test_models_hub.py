"""The hub: errors in plain words with a next action, and the cache where there is no network."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ASK = """
import json, sys
from engine.models.hub import resolve_model
from engine.recipe.problems import ProblemError
answers = []
for base, revision in json.loads(sys.argv[1]):
    try:
        found = resolve_model(base, revision)
        answers.append(["found", str(found.folder), found.revision])
    except ProblemError as error:
        answers.append([error.problems[0].code, error.problems[0].message, error.problems[0].fix])
print(json.dumps(answers))
"""
ERRORS = {
    "nobody": (401, "RepoNotFound"),
    "gated": (403, "GatedRepo"),
    "old": (404, "RevisionNotFound"),
    "ill": (500, ""),
}


class FakeHub(BaseHTTPRequestHandler):
    """Answers every question about `OWNER/model` with the error that OWNER stands for."""

    def do_GET(self) -> None:
        """Send the error."""
        status, code = next(value for owner, value in ERRORS.items() if f"/{owner}/" in self.path)
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.end_headers()
        self.wfile.write(b"{}")

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def ask(questions: list, home: Path, **environment: str) -> list:
    settings = {key: value for key, value in os.environ.items() if key not in ("HF_HUB_OFFLINE", "HF_ENDPOINT")}
    settings |= {"HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", **environment}
    command = [sys.executable, "-c", ASK, json.dumps(questions)]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=settings, cwd=root, capture_output=True, text=True, timeout=120, check=True)
    answers: list = json.loads(done.stdout)
    return answers


@pytest.fixture
def cached_model(tmp_path: Path) -> Path:
    """A hub cache with one model in it."""
    repository = tmp_path / "hub" / "models--made--model"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    for name in ("config.json", "model.safetensors"):
        (snapshot / name).write_text("{}")
    return snapshot


def test_errors_of_the_hub_are_explained(tmp_path):
    hub = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    try:
        questions = [["nobody/model", None], ["gated/model", None], ["old/model", "v9"], ["ill/model", None]]
        answers = ask(questions, tmp_path, HF_ENDPOINT=f"http://127.0.0.1:{hub.server_port}")
    finally:
        hub.shutdown()
        hub.server_close()
    assert [code for code, _, _ in answers] == [
        "model.not_found", "model.gated", "model.no_revision", "model.download_failed"
    ]  # fmt: skip
    assert "spelling" in answers[0][2]
    assert "hf auth login" in answers[1][2]
    assert "'v9'" in answers[2][1]
    assert "continues where it stopped" in answers[3][2]


def test_without_network_the_cache_answers_and_names_the_commit(tmp_path, cached_model):
    nowhere = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    found, pinned, missing = ask(
        [["made/model", None], ["made/model", COMMIT], ["other/model", None]], tmp_path, **nowhere
    )
    assert found == pinned == ["found", str(cached_model), COMMIT]
    assert missing[0] == "model.download_failed"


def test_switched_off_hub(tmp_path, cached_model):
    found, missing = ask([["made/model", None], ["other/model", None]], tmp_path, HF_HUB_OFFLINE="1")
    assert found == ["found", str(cached_model), COMMIT]
    assert missing[0] == "model.offline"


def test_interrupted_download_is_no_model(tmp_path, cached_model):
    (cached_model / "model.safetensors").unlink()
    ((code, *_),) = ask([["made/model", None]], tmp_path, HF_HUB_OFFLINE="1")
    assert code == "model.offline"
