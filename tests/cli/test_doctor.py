import json
import socket
from pathlib import Path

import pytest

from slicewise.cli.main import main

NAMES = [
    "python",
    "packages",
    "torch",
    "weights",
    "encoding",
    "tracking",
    "cores",
    "memory",
    "device",
    "workspace",
    "disk",
    "lock",
    "inputs",
    "data",
    "kaggle",
    "ports",
    "supervisor",
]


def free_ports() -> list[str]:
    with socket.socket() as one, socket.socket() as two:
        for probe in (one, two):
            probe.bind(("127.0.0.1", 0))
        return [
            f"serving.api_port={one.getsockname()[1]}",
            f"serving.page_port={two.getsockname()[1]}",
            "serving.supervisor=builtin",
            "runtime.max_worker_memory_mib=64",
            "data.sources.volumes.phantom_patients=6",
            "scale.min_patients=6",
        ]


def test_a_machine_on_which_a_run_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--workspace", str(tmp_path), *free_ports()]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "a run can start"
    assert [line.split()[1] for line in lines if line[2:6] in ("good", "warn")] == NAMES
    assert not list(tmp_path.iterdir())


def test_what_prevents_a_run_is_said_with_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        words = ["doctor", "--workspace", str(tmp_path), *free_ports(), f"serving.api_port={port}"]
        assert main(words) == 1
        text = capsys.readouterr().out
        assert main([*words, "--json"]) == 1
    assert f"bad   ports       taken: {port}" in text
    assert f"serving.api_port={port + 10}" in text
    assert text.rstrip().endswith("a run would fail: ports")
    assert max(map(len, text.splitlines())) <= 80
    found = json.loads(capsys.readouterr().out)
    assert found["ready"] is False
    assert [check["name"] for check in found["checks"]] == NAMES
    assert all(check["advice"] for check in found["checks"] if check["level"] != "good")


def test_ports_matter_where_the_demo_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = f"serving.api_port={taken.getsockname()[1]}"
        command = ["doctor", "--workspace", str(tmp_path), *free_ports(), busy]
        for words in ("--skip-demo", "--until report", "--mode train-eval", "--folds 2", "--only split"):
            assert main([*command, *words.split()]) == 0, words
            assert "a run can start" in capsys.readouterr().out
        assert main([*command, "--mode", "demo"]) == 1
        assert main(command) == 1
