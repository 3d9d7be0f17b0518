"""The data step in a real terminal with a real file: type its path, see what it is, its lengths and its problems."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.tmux import Tmux

ASSETS = Path(os.environ.get("FTWIZARD_TEST_ASSETS", Path(__file__).resolve().parents[3] / "shared" / "assets"))
DIALOGUES = "MTS-Dialog-TrainingSet.csv"

pytestmark = [
    pytest.mark.assets,
    pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed"),
    pytest.mark.skipif(not ASSETS.is_dir(), reason="the shared assets are not here"),
]


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    session = Tmux(tmp_path / "tmux.sock")
    yield session
    session.kill()


def test_a_table_with_cells_of_many_lines_is_read_asked_about_and_shown(tmp_path: Path, tmux: Tmux) -> None:
    (source,) = sorted(ASSETS.rglob(DIALOGUES))[:1]
    shutil.copy(source, tmp_path / "dialogues.csv")
    environment = {
        "FTWIZARD_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLORTERM": "truecolor",
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    tmux.start(f"{sys.executable} -m tui.cli", environment, tmp_path)
    tmux.wait_for("New run")
    tmux.keys("Enter")
    tmux.wait_for("What should the model learn?")
    tmux.keys("Enter")
    tmux.wait_for("Filter, or type")
    tmux.type("starter")
    tmux.wait_for("Starter model")
    tmux.keys("Enter")
    tmux.wait_for("Built-in commands")
    tmux.type("./dialogues.csv")
    tmux.wait_for("Read ./dialogues.csv")
    tmux.keys("Enter")
    asked = tmux.wait_for("How are these rows to be read?")
    assert "columns: ID, section_header, section_text, dialogue" in asked
    tmux.wait_for("source ← dialogue · target ← section_text")
    tmux.keys("1")
    tmux.wait_for("1,201 rows")
    tmux.keys("Right")
    tmux.wait_for("m median")
    tmux.keys("Right")
    assert "1,201 read = " in tmux.wait_for(" read = ")
    tmux.keys("Right")
    tmux.wait_for("the first row as it is read")
    tmux.keys("F4")
    assert "1 of 1,0" in tmux.wait_for("in file order")
    tmux.keys("l")
    longest = tmux.wait_for("by length")
    assert "dialogues.csv:" in longest
    tmux.keys("F3")
    tmux.wait_for("1,201 rows")
