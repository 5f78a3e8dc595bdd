"""What `slicewise status` says of a run that was killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import Pipeline
from tests.test_bad_input import SETTINGS, write_patient

KILLED_AT_SPLIT = """
import os, signal, sys
from slicewise.cli.main import main
from slicewise.data.split.assignment import Split
Split.to_json = lambda self: os.kill(os.getpid(), signal.SIGKILL)
main(sys.argv[1:])
"""


@pytest.fixture
def pipeline(tmp_path: Path) -> Pipeline:
    for number in range(1, 4):
        write_patient(tmp_path / "data", number)
    return Pipeline(tmp_path / "workspace", (*SETTINGS, f"data.sources.volumes.path={tmp_path / 'data'}"))


@pytest.mark.parametrize("force", ["download,preprocess,split", "download,preprocess"])
def test_a_killed_run_is_continued_without_forcing_what_it_had_finished(
    pipeline: Pipeline, force: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["run", "--workspace", str(pipeline.workspace), "--until", "split", "--force", force]
    command = [sys.executable, "-c", KILLED_AT_SPLIT, *words, *pipeline.overrides]
    done = subprocess.run(command, env={**os.environ, "COLUMNS": "200"}, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert Pipeline(pipeline.workspace, ()).call("status") == 0
    output = capsys.readouterr().out.partition("to continue: ")[2]
    assert ("--force split" in output) == ("split" in force)
    assert "download" not in output
    assert f"--until split {pipeline.overrides[0]}" in output
