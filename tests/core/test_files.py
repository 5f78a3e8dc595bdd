import json
import subprocess
import sys
from pathlib import Path

import pytest

from slicewise.core.errors import WorkspaceError
from slicewise.core.files import atomic_write, read_json, sweep, write_json


def test_json_round_trip(tmp_path: Path) -> None:
    write_json(tmp_path / "deep" / "a.json", {"b": [1, None], "ü": "é"})
    assert read_json(tmp_path / "deep" / "a.json") == {"b": [1, None], "ü": "é"}


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})
    with pytest.raises(RuntimeError, match="half-way"), atomic_write(path) as stream:
        stream.write(b"new")
        raise RuntimeError("half-way")
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_write_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from slicewise.core.files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as stream: stream.write(b'half'); os.kill(os.getpid(), 9)"
    )
    kept = [tmp_path / "a.json", tmp_path / ".hidden", tmp_path / "deep" / "b.json"]
    for path in kept:
        write_json(path, {"old": 1})
    for path in (kept[0], kept[2]):
        subprocess.run([sys.executable, "-c", code, str(path)], check=False)

    sweep(tmp_path)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 4
    sweep(tmp_path, deep=True)
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
    assert read_json(kept[0]) == {"old": 1}


def test_nan_never_reaches_a_json_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_damaged_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("{")
    with pytest.raises(WorkspaceError, match=r"a\.json is damaged"):
        read_json(path)
