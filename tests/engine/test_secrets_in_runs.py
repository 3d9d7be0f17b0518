"""A token that stands in a row reaches no log, event, report or message of the run that trains on the row."""

import json
from pathlib import Path

from engine.runs.directory import RunDirectory
from tests.engine.forked import ForkedWorker
from tests.engine.made_runs import made_recipe, make_run, write_rows
from tests.engine.spoiled_rows import TOKEN
from tests.engine.tiny_models import command_rows


def spoiled(count: int) -> list[dict]:
    """Return rows whose every question and answer holds the token, so that any sample would show it."""
    rows = command_rows(count)
    for row in rows:
        for message in row["messages"]:
            message["content"] = f"{TOKEN} {message['content']}"
    return rows


def files_with(token: str, run: RunDirectory) -> set[str]:
    files = (path for path in run.path.rglob("*") if path.is_file())
    return {str(path.relative_to(run.path)) for path in files if token.encode() in path.read_bytes()}


def finished(tmp_path: Path, model: Path, action: str) -> RunDirectory:
    data = write_rows(tmp_path / "rows.jsonl", spoiled(32))
    recipe = made_recipe(
        model, data, data={"cleaning": {"secrets": action}}, training={"max_length": 200, "evaluate_every": 4}
    )
    run = make_run(tmp_path / "run", recipe)
    worker = ForkedWorker(run)
    assert worker.wait() == 0, worker.log()[-3000:]
    return run


def test_reported_secrets_stay_in_the_rows(tmp_path: Path, tiny_model_folder: Path):
    run = finished(tmp_path, tiny_model_folder, "report")
    assert files_with(TOKEN, run) == {"data/train.jsonl", "data/held_out.jsonl"}
    assert "<TOKEN>" in run.report_json_file.read_text()


def test_masked_secrets_are_nowhere(tmp_path: Path, tiny_model_folder: Path):
    run = finished(tmp_path, tiny_model_folder, "mask")
    assert files_with(TOKEN, run) == set()
    row = json.loads(run.train_file.read_text().splitlines()[0])
    assert all(message["content"].startswith("<TOKEN> ") for message in row["messages"])
