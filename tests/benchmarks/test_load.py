"""The load generator in seconds: both servers answer, and no body is a fault of the server."""

import json
from pathlib import Path

from benchmarks.load import main


def test_a_short_load(checkpoint_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "load.json"
    words = [
        "--checkpoint",
        checkpoint_path,
        "--clients",
        2,
        "--seconds",
        0,
        "--malformed",
        30,
        "--json",
        path,
    ]
    assert main([*map(str, words)]) == 0
    figures = json.loads(path.read_text())
    assert len(figures["rows"]) == 2 * 2
    assert all(row["per_second"] > 0 for row in figures["rows"])
    assert all(400 <= int(status) < 500 for status in figures["malformed"]["statuses"])
    assert sum(figures["malformed"]["statuses"].values()) == 30
