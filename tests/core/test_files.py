import json
from pathlib import Path

import pytest

from slicewise.core.errors import WorkspaceError
from slicewise.core.files import atomic_write, read_json, require_space, write_json


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


def test_nan_never_reaches_a_json_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert not (tmp_path / "a.json").exists()


def test_damaged_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("{")
    with pytest.raises(WorkspaceError, match=r"a\.json is damaged"):
        read_json(path)


def test_space_is_checked_on_the_disk_of_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    require_space(tmp_path / "not" / "yet", 1, "a test")
    with pytest.raises(WorkspaceError, match=r"a test needs about .* MiB .* free"):
        require_space(tmp_path / "not" / "yet", 1 << 60, "a test")
