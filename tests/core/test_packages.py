"""Installed packages are read as `importlib.metadata` reads them."""

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from slicewise.core import packages
from slicewise.core.packages import offer_any, versions

NAMES = ("torch", "grad-cam", "Segmentation.Models-PyTorch", "lightning_fabric")


def test_versions_are_those_of_the_metadata() -> None:
    assert versions(NAMES) == {name: metadata.version(name) for name in NAMES}
    assert versions(["no-package-of-this-name"]) == {}


def test_the_first_on_the_path_counts_and_damage_is_read_by_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder, version in (("first", "2.0"), ("second", "3.0")):
        info = tmp_path / folder / "torch-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n\nVersion: 9\n"
        )
    monkeypatch.syspath_prepend(tmp_path / "second")
    monkeypatch.syspath_prepend(tmp_path / "first")
    assert versions(["torch"]) == {"torch": "2.0"}


def test_copies_inside_a_package_are_no_installed_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing Ray puts such a folder on the path, and what is installed stays the same."""
    installed = packages.distributions()
    copies = tmp_path / "ray" / "copies"
    (copies / "psutil-7.0.dist-info").mkdir(parents=True)
    (tmp_path / "ray" / "__init__.py").touch()
    monkeypatch.syspath_prepend(copies)
    assert packages.distributions() == installed


def test_an_offer_is_found_on_the_path_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not offer_any("slicewise.")
    info = tmp_path / "mine-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text(
        "[console_scripts]\na = b:c\n\n[slicewise.losses]\nmine = mine:loss\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert offer_any("slicewise.")
    assert not offer_any("slicewise.metrics")


def test_an_archive_is_left_to_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "all.zip").touch()
    monkeypatch.syspath_prepend(tmp_path / "all.zip")
    assert offer_any("slicewise.")


@pytest.mark.parametrize(
    ("module", "extra"),
    [("torch._C", "pipeline"), ("cv2", "pipeline"), ("onnxruntime", "runtime"), ("uvicorn", "serving")],
)
def test_a_missing_package_is_named_with_its_extra(module: str, extra: str) -> None:
    text = packages.explain_missing(ModuleNotFoundError(name=module))
    assert text is not None
    assert text.startswith(f"the package {module.partition('.')[0]} is not installed")
    assert text.endswith(f"pip install 'slicewise[{extra}]'")


def test_a_missing_module_of_slicewise_is_a_bug() -> None:
    assert packages.explain_missing(ModuleNotFoundError(name="slicewise.absent")) is None


def test_every_module_of_an_extra_is_one_of_its_dependencies() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for extra, modules in packages._EXTRAS.items():
        named = {re.split(r"[<>=~!;\[ ]", line)[0].replace("-", "_") for line in extras[extra]}
        assert {*modules} == named - {"slicewise"}
