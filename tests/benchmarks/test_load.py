"""The load generator in seconds: what it measures in minutes must hold here too."""

import json
from pathlib import Path

from benchmarks.load import main


def test_a_short_load(checkpoint_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "load.json"
    words = ["--checkpoint", checkpoint_path, "--clients", 1, 2, "--seconds", 0.5, "--mixed", 3]
    words += ["--flood", 2, "--malformed", 30, "--kill", "--json", path]
    assert main([*map(str, words)]) == 0
    figures = json.loads(path.read_text())
    assert len(figures["rows"]) == 2 * 2 * 2
    assert all(row["per_second"] > 0 for row in figures["rows"])
    assert {*figures["mixed"]["statuses"]} == {"200"}
    assert {*figures["flood"]["statuses"]} <= {"200", "503"}
    assert figures["flood"]["statuses"]["503"] > 0
    assert {*figures["flood"]["after"]} == {"200"}
    assert (figures["flood"]["queue"]["running"], figures["flood"]["queue"]["waiting"]) == (0, 0)
    assert all(400 <= int(status) < 500 for status in figures["malformed"]["statuses"])
    assert sum(figures["malformed"]["statuses"].values()) == 30
    assert figures["kill"]["statuses"] == {"200": 1}
