"""A run in a terminal of 80 columns leaves on the screen the lines that a pipe gets, each whole."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.data.download.test_kaggle import FakeKaggle, endpoints, kaggle, make_zip
from tests.terminal import Terminal, in_terminal
from tests.test_bad_input import file_of, write_patient
from tests.test_cross_validation import SMALL

__all__ = ["endpoints", "kaggle"]  # fixtures

COLUMNS = 80
PROGRAM = """
import sys
from kagglesdk import kaggle_env
from slicewise.cli.main import main
if __name__ == "__main__":
    kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.TEST] = sys.argv[1]
    sys.exit(main(sys.argv[2:]))
"""
"""The command line with another address in place of Kaggle's."""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Patients and pictures, some of them damaged, so that there are lines to print among the bars."""
    root = tmp_path / "data"
    for number in range(1, 9):
        patient = write_patient(root / "volumes", number)
    file_of(patient, "t2").write_bytes(b"no volume")
    for label in ("yes", "no"):
        for number in range(10):
            rng = np.random.default_rng(number + 100 * (label == "yes"))
            path = root / "pictures" / label / f"picture {number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (48, 48), dtype=np.uint8)).save(path)
        (root / "pictures" / label / "damaged.png").write_bytes(b"no picture")
    return root


class Screen:
    """One command, in a terminal and in a pipe; both begin with an empty workspace."""

    def __init__(self, tmp_path: Path, data: Path) -> None:
        self.workspace = tmp_path / "workspace"
        self.address = "http://127.0.0.1:9"
        self._program = tmp_path / "program.py"  # a worker process needs a file to import
        self._program.write_text(PROGRAM)
        self._settings = (
            "data=brats",
            f"data.sources.volumes.path={data / 'volumes'}",
            f"data.sources.pictures.path={data / 'pictures'}",
            *(word for word in SMALL if not word.startswith("data.")),
            "runtime.num_workers=2",
        )

    def command(self, *words: str) -> list[str]:
        main = ("run", "--no-input", "--workspace", str(self.workspace), *self._settings, *words)
        return [sys.executable, str(self._program), self.address, *main]

    def compare(self, bars: list[str], *words: str) -> list[str]:
        """Run in both; return the lines, having found them the same and the bars drawn and gone."""
        code, sent = in_terminal(self.command(*words), COLUMNS)
        assert code == 0, sent
        assert [bar for bar in bars if f"{bar}: " not in sent] == []
        shutil.rmtree(self.workspace)
        piped = subprocess.run(
            self.command(*words), check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env=os.environ | {"COLUMNS": str(COLUMNS)},
        ).stdout  # fmt: skip
        terminal = Terminal(COLUMNS)
        terminal.feed(sent)
        shown = [timeless(line) for line in terminal.shown]
        assert shown == [timeless(line.rstrip()) for line in piped.splitlines() if line.strip()]
        assert terminal.column == 0, "the prompt of the shell begins a line of its own"
        return shown


@pytest.fixture
def screen(tmp_path: Path, data: Path) -> Screen:
    return Screen(tmp_path, data)


def timeless(line: str) -> str:
    """Return a line without the seconds and the memory that a step took, and without the images a second."""
    return re.sub(r"[\d.,]+ (s|MiB|images/s)\b", r"# \1", line)


def test_a_download_leaves_whole_lines(
    screen: Screen, data: Path, kaggle: FakeKaggle, endpoints: tuple[dict[Any, str], Any]
) -> None:
    table, test = endpoints
    screen.address = table[test]
    pictures = sorted((data / "pictures").rglob("*.png"))
    files = {path.relative_to(data).as_posix(): path.read_bytes() for path in pictures}
    kaggle.body = make_zip({**files, "pictures/padding.bin": os.urandom(1 << 20)})
    kaggle.drop_after = [300_000]  # the bar begins anew where the connection broke
    words = (
        "data.sources.pictures.path=null",
        "data.sources.pictures.kaggle=owner/brains",
        "--until",
        "download",
    )
    lines = screen.compare(["owner/brains", "Unpacking", "Comparing pictures", "Checking the data"], *words)
    assert sum("padding.bin" in line for line in lines) == 1
    assert sum("damaged.png" in line for line in lines) == 2


def test_a_run_leaves_whole_lines(screen: Screen) -> None:
    bars = ["Checking the data", "Preprocessing", "seg_warmup 1/1"]
    lines = screen.compare(bars, "--until", "train.seg_warmup")
    assert any("cases sliced" in line for line in lines)
    assert any(line.startswith("ran download, preprocess, split, train.seg_warmup") for line in lines)
