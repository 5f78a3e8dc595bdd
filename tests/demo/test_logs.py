"""Logs that rotate while a service writes, and readers that follow them."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.test_full_disk import Tmpfs, mounted

from slicewise.demo.logs import NUM_KEPT, LogReader, log_path, quote_log, rotate_log

SHORT_LOGS = (
    "import sys; from slicewise.demo import logs; "
    "logs.LOG_BYTES, logs._CHECK_SECONDS = 20_000, 0.01; sys.exit(logs.main(sys.argv[1:]))"
)
CHATTER = """
import logging, sys, time
logging.basicConfig(level="INFO", format="%(message)s")
for number in range(int(sys.argv[1])):
    logging.info("line %d %s", number, "." * 60)
    if number % 10 == 0:
        time.sleep(0.002)
print("done", flush=True)
sys.exit(5)
"""
StartService = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def chatter(tmp_path: Path) -> StartService:
    """Return a function that starts a service that logs so many lines, with rotation at 20 kB."""
    (tmp_path / "chatter.py").write_text(CHATTER)

    def start(log: Path, number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", SHORT_LOGS, str(log), "chatter", str(number)]
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    return start


def numbers_in(lines: list[str]) -> list[int]:
    assert all(line.endswith("." * 60) for line in lines if line.startswith("line")), "a line is torn"
    return [int(line.split()[1]) for line in lines if line.startswith("line")]


def test_a_log_rotates_while_it_is_written_and_a_reader_misses_nothing(
    chatter: StartService, tmp_path: Path
) -> None:
    path = log_path(tmp_path, "api")
    reader, lines = LogReader(path), list[str]()
    with chatter(path, 2000) as service:
        while service.poll() is None:
            lines += reader.lines()
            time.sleep(0.005)
        assert service.stdout is not None
        assert service.stdout.read() == b""
    assert service.returncode == 5
    lines += reader.lines()
    assert numbers_in(lines) == [*range(2000)]
    assert lines[-1] == "done"
    kept = sorted(tmp_path.glob("demo-api.log*"))
    assert [file.name.removeprefix("demo-api.log") for file in kept] == ["", ".1", ".2", ".3"]
    assert all(file.stat().st_size < 100_000 for file in kept)
    latest = LogReader(path).tail(1000)
    assert numbers_in(latest) == [*range(2000 - len(latest) + 1, 2000)], "also of the rotated logs"
    assert len(latest) > len(path.read_text().splitlines())
    assert quote_log(path).splitlines()[-1] == "    done"


def test_a_service_runs_on_while_the_disk_is_full(chatter: StartService, tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    with mounted(folder, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        disk = Tmpfs(folder)
        disk.fill()
        with chatter(log_path(folder, "api"), 200) as service:
            assert service.wait(20) == 5
        disk.mend()
        with chatter(log_path(folder, "api"), 3) as service:
            service.wait(20)
        assert numbers_in(LogReader(log_path(folder, "api")).tail(4)) == [0, 1, 2]


def test_without_a_folder_for_its_log_a_service_runs_on_and_says_so(
    chatter: StartService, tmp_path: Path
) -> None:
    with chatter(tmp_path / "nowhere" / "demo-api.log", 3) as service:
        assert service.stdout is not None
        output = service.stdout.read().decode()
    assert service.returncode == 5
    assert "demo-api.log: the folder does not exist; chatter runs without a log" in output
    assert numbers_in(output.splitlines()) == [0, 1, 2]


def test_the_oldest_log_is_deleted_and_what_is_missing_is_empty(tmp_path: Path) -> None:
    path = log_path(tmp_path, "page")
    assert LogReader(path).tail(5) == []
    assert "empty" in quote_log(path)
    for number in range(NUM_KEPT + 3):
        path.write_text(f"{number}\n")
        rotate_log(path)
    assert sorted(file.read_text() for file in tmp_path.iterdir()) == ["3\n", "4\n", "5\n"]
    assert LogReader(path).tail(2) == ["4", "5"]
    assert LogReader(path).tail(0) == []


def test_a_log_that_was_emptied_is_read_from_its_start(tmp_path: Path) -> None:
    path = log_path(tmp_path, "page")
    path.write_bytes(b"first\nhal")
    reader = LogReader(path)
    assert reader.lines() == ["first"]
    with path.open("ab") as log:
        log.write(b"f \xff\r\n")
    assert reader.lines() == ["half \ufffd"]
    path.write_text("new\n")  # as `pm2 flush` does
    assert reader.lines() == ["new"]
    assert reader.lines() == []
