"""A run as another terminal sees it."""

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Pipeline
from tests.engine.test_lock import controller, said
from tests.fixtures.services import started

from slicewise.cli.main import main
from slicewise.cli.status import seconds_left, status_lines
from slicewise.core.activity import PROGRESS_NAME
from slicewise.core.disk import MIB
from slicewise.core.files import write_json
from slicewise.engine.lock import Holder
from slicewise.engine.record import RECORD_NAME, utc_now

ELSEWHERE = replace(Holder.current(), pid=7, host="node3", machine="m", since="2026-01-01T00:00:00+00:00")
NOW = 1_000_000.0


def progress(**job: Any) -> dict[str, Any]:
    whole = {
        "desc": "joint 2/3",
        "total": 40,
        "unit": "batch",
        "initial": 0,
        "done": 10,
        "note": "loss 0.412",
    }
    return {
        "command": "slicewise run data=lgg",
        "started": NOW - 3700,
        "step": {"name": "train.joint", "reason": "forced", "started": NOW - 75},
        "job": {**whole, "started": NOW - 20, **job},
    }


def test_the_screen_says_who_what_how_far_and_how_long() -> None:
    assert status_lines(ELSEWHERE, progress(), NOW) == [
        "slicewise run data=lgg  (process 7 on node3 since 2026-01-01T00:00:00+00:00)",
        "train.joint: forced",
        "joint 2/3  [######------------------]  10 of 40 batch  loss 0.412",
        "elapsed 1:01:40, step 1:15, joint 2/3 ends in about 1:00",
    ]


def test_bytes_unknown_totals_and_work_without_a_bar() -> None:
    whole = progress(desc="archive", unit="B", done=3 * MIB, total=12 * MIB, note="")
    assert status_lines(ELSEWHERE, whole, NOW)[2] == "archive  [######------------------]  3.0 of 12.0 MiB"
    assert status_lines(ELSEWHERE, progress(unit="B", done=3 * MIB, total=0), NOW)[2] == "joint 2/3  3.0 MiB"
    assert status_lines(ELSEWHERE, {**progress(), "job": None}, NOW)[-1] == "elapsed 1:01:40, step 1:15"
    assert "starting" in status_lines(ELSEWHERE, None, NOW)[0]


def test_what_was_done_before_does_not_count_as_speed() -> None:
    assert seconds_left(progress(initial=5)["job"], NOW) == pytest.approx(30 / (5 / 20))
    assert seconds_left(progress(initial=10)["job"], NOW) is None
    assert seconds_left(progress(total=None)["job"], NOW) is None


def test_memory_is_shown_for_a_run_on_this_machine() -> None:
    assert ", memory " in status_lines(Holder.current(), progress(), NOW)[-1]


def test_nothing_to_watch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--watch", "--workspace", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "nothing runs in this workspace\n"
    assert not list(tmp_path.iterdir())


def test_a_killed_run_is_told_from_one_that_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with controller(tmp_path / ".slicewise" / "lock", "real", seconds=1.0) as other:
        assert said(other) == "held"
        write_json(tmp_path / RECORD_NAME, {"status": "running", "started_at": utc_now()})
        assert main(["status", "--watch", "--workspace", str(tmp_path)]) == 1
    assert capsys.readouterr().out.endswith("the run killed\n")


def test_a_command_without_a_record_is_not_taken_for_the_run_killed_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(tmp_path / RECORD_NAME, {"status": "running", "started_at": "2026-01-01T00:00:00+00:00"})
    with controller(tmp_path / ".slicewise" / "lock", "real", seconds=1.0) as other:
        assert said(other) == "held"
        assert main(["status", "--watch", "--workspace", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("the run ended\n")


def test_the_last_run_is_at_work_or_was_killed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = {"command": "slicewise run seed=1", "status": "running", "total_duration_seconds": 0.1}
    with controller(tmp_path / ".slicewise" / "lock", "real", seconds=1.0) as other:
        assert said(other) == "held"
        write_json(tmp_path / RECORD_NAME, {**record, "started_at": utc_now(), "continue_with": None})
        write_json(tmp_path / ".slicewise" / PROGRESS_NAME, progress())
        assert main(["status", "--workspace", str(tmp_path)]) == 0
        at_work = capsys.readouterr().out
    assert main(["status", "--workspace", str(tmp_path)]) == 0
    killed = capsys.readouterr().out
    assert "  train.joint: forced\n" in at_work
    assert "killed" not in at_work
    assert "killed, started 2" in killed
    assert "to continue: slicewise run seed=1\n" in killed


@pytest.mark.slow
def test_a_real_run_is_followed_to_its_end_on_a_terminal_and_in_a_pipe(
    trained: Pipeline, tmp_path: Path
) -> None:
    pipeline = Pipeline(
        tmp_path / "watched", (*trained.overrides, "preprocessing.image_size=320", "runtime.num_workers=1")
    )
    shutil.copytree(trained.workspace, pipeline.workspace)
    head = [sys.executable, "-m", "slicewise"]
    place = ["--workspace", str(pipeline.workspace)]
    run = [*head, "run", "--no-input", "--until", "preprocess", *place, *pipeline.overrides]
    watch = [*head, "status", "--watch", *place]
    lock, state = pipeline.workspace / ".slicewise" / "lock", pipeline.workspace / ".slicewise"
    leader, follower = pty.openpty()
    with started(run, stdout=subprocess.DEVNULL) as running:
        while not lock.exists():
            assert running.poll() is None
            time.sleep(0.02)
        with (
            started(watch, stdout=subprocess.PIPE, text=True) as piped,
            started(watch, stdout=follower, env={**os.environ, "COLUMNS": "80"}) as seen,
        ):
            os.close(follower)
            screen = read_all(leader)
            lines = piped.communicate(timeout=120)[0].splitlines()
            seen.wait(60)
        running.wait(60)
    assert (running.returncode, piped.returncode, seen.returncode) == (0, 0, 0)
    assert all(line != after for line, after in pairwise(lines)), "a line is a change"
    assert any("preprocess: preprocessing.image_size: 64 -> 320" in line for line in lines)
    assert any("Preprocessing  [" in line and " of 22 case" in line for line in lines)
    assert lines[-1] == "the run completed"
    assert "\x1b[J" in screen
    assert "elapsed 0:" in screen
    assert not (state / PROGRESS_NAME).exists()


def read_all(leader: int) -> str:
    """Read a terminal until its last writer has gone."""
    parts = []
    while select.select([leader], [], [], 120)[0]:
        try:
            part = os.read(leader, 1 << 16)
        except OSError:
            break
        if not part:
            break
        parts.append(part)
    os.close(leader)
    return b"".join(parts).decode()
