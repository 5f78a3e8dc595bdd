"""Registries: built in, registered, offered by an installed package."""

from pathlib import Path

import pytest

from slicewise.core.errors import ConfigError
from slicewise.core.registry import Registry


def make() -> Registry[object]:
    return Registry("shapes", {"path": "pathlib:Path"})


def offer(folder: Path, value: str) -> None:
    """Install a package whose entry point `square` of the group `slicewise.shapes` is `value`."""
    info = folder / "shapes_extension-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shapes-extension\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[slicewise.shapes]\nsquare = {value}\n")
    (folder / "shapes_extension.py").write_text("SQUARE = 4\n")


def test_a_builtin_is_imported_when_it_is_looked_up() -> None:
    assert make()["path"] is Path


def test_what_is_registered_is_found() -> None:
    shapes = make()
    shapes.register("circle", 1)
    assert shapes["circle"] == 1
    assert shapes.names() == ("path", "circle")


def test_a_name_is_given_once() -> None:
    with pytest.raises(ConfigError, match="'path' is taken"):
        make().register("path", 1)


def test_another_package_offers_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path, "shapes_extension:SQUARE")
    monkeypatch.syspath_prepend(tmp_path)
    assert make()["square"] == 4
    assert "square" in make().names()


def test_a_broken_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path, "shapes_extension_that_is_not_there:SQUARE")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="shapes_extension_that_is_not_there"):
        make()["square"]


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"did you mean path.*known are path"):
        make()["paht"]
