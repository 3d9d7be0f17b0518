"""A model hub on loopback: the part of its API that ftwizard uses, over models and data sets made in a test."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants

WEIGHTS = "model.safetensors"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_madeUpForTestsOnly1234"


@dataclass
class Served:
    """One model or data set on the hub; `faults` are taken one by one, each by one request for the file's content."""

    files: dict[str, bytes]
    commit: str = COMMIT
    safetensors: dict[str, int] | None = None
    error: tuple[int, str, str] | None = None
    file_error: tuple[int, str, str] | None = None
    sizes: dict[str, int] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=dict)

    def listing(self) -> dict[str, Any]:
        """Return what the API says of the model."""
        siblings = [self._sibling(name, content) for name, content in self.files.items()]
        facts: dict[str, Any] = {"_id": "1", "id": "made/model", "sha": self.commit, "siblings": siblings}
        if self.safetensors:
            facts["safetensors"] = {"parameters": self.safetensors, "total": sum(self.safetensors.values())}
        return facts

    def _sibling(self, name: str, content: bytes) -> dict[str, Any]:
        size = self.sizes.get(name, len(content))
        git_hash = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
        entry: dict[str, Any] = {"rfilename": name, "size": size, "blobId": self.hashes.get(name, git_hash)}
        if name.endswith(".safetensors"):
            sha256 = self.hashes.get(name, hashlib.sha256(content).hexdigest())
            entry["lfs"] = {"sha256": sha256, "size": size, "pointerSize": 134}
        return entry


@dataclass
class Hub:
    """The models and data sets on offer and what was asked: `(path, Range header, Authorization header)`.

    The fault `hold` sends one half and keeps the connection open until `released` is set;
    `holding` says that it does.
    """

    url: str = ""
    models: dict[str, Served] = field(default_factory=dict)
    datasets: dict[str, Served] = field(default_factory=dict)
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    found: list[Any] | dict[str, Any] = field(default_factory=list)
    searches: list[dict[str, list[str]]] = field(default_factory=list)
    search_error: tuple[int, str, str] | None = None
    holding: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)

    def asked_for(self, ending: str) -> list[str | None]:
        """Return the Range headers of the requests for content whose path ends so."""
        return [wanted for path, wanted, _ in self.requests if path.endswith(ending) and "/resolve/" not in path]


def read_folder(folder: Path) -> dict[str, bytes]:
    """Return the files of a model folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((path, self.headers.get("Range"), self.headers.get("Authorization")))
        if path == "/api/models":
            self._search(parse_qs(urlsplit(self.path).query))
        elif path.startswith(("/api/models/", "/api/datasets/")):
            kind, owner, name = path.split("/")[2:5]
            offered = self.hub.models if kind == "models" else self.hub.datasets
            self._listing(offered.get(f"{owner}/{name}"), path)
        elif path.startswith("/content/"):
            owner, name, file = path.split("/", 4)[2:]
            self._content(self._repository(owner, name), file)
        else:
            self._resolve(path)

    def _search(self, asked: dict[str, list[str]]) -> None:
        """Answer a search with what the test put down, whatever was asked."""
        self.hub.searches.append(asked)
        if self.hub.search_error:
            self._refuse(*self.hub.search_error)
        else:
            self._send(200, json.dumps(self.hub.found).encode())

    def _listing(self, model: Served | None, path: str) -> None:
        if model is None:
            self._refuse(404, "RepoNotFound", "Repository not found")
        elif model.error:
            self._refuse(*model.error)
        elif "/revision/" in path and path.rsplit("/", 1)[1] not in (model.commit, "main", "v1"):
            self._refuse(404, "RevisionNotFound", "Invalid rev id")
        else:
            self._send(200, json.dumps(model.listing()).encode())

    def _repository(self, owner: str, name: str) -> Served:
        return (self.hub.models | self.hub.datasets)[f"{owner}/{name}"]

    def _resolve(self, path: str) -> None:
        """Answer as the hub does: small files at once, large ones by a signed address on another host."""
        _, owner, name, _, _, file = path.removeprefix("/datasets").split("/", 5)
        model = self._repository(owner, name)
        if model.file_error:
            self._refuse(*model.file_error)
            return
        if file not in model.files:
            self._refuse(404, "EntryNotFound", "Entry not found")
            return
        port = urlsplit(self.hub.url).port
        self.send_response(302)
        self.send_header("Location", f"http://localhost:{port}/content/{owner}/{name}/{file}?signature=secret-part")
        self.send_header("X-Repo-Commit", model.commit)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _content(self, model: Served, file: str) -> None:
        content = model.files[file]
        fault = model.faults.get(file, [])
        fault_now = fault.pop(0) if fault else ""
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and fault_now != "no-range" else 0
        body = content[start:]
        if fault_now == "busy":
            self._refuse(503, "", "Busy")
            return
        if fault_now == "flip":
            body = body[:-1] + bytes([body[-1] ^ 1])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault_now in ("cut", "hold"):
            self.wfile.write(body[: len(body) // 2])
            if fault_now == "hold":
                self.hub.holding.set()
                self.hub.released.wait(60)
            self.close_connection = True
            return
        self.wfile.write(body)

    def _refuse(self, status: int, code: str, message: str) -> None:
        self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message})

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """Serve a hub on loopback while the block runs."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield hub
    finally:
        hub.released.set()
        server.shutdown()
        server.server_close()


def point_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the hub client of this process ask `url`; it reads the variable when it is imported only."""
    huggingface_hub.close_session()
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
