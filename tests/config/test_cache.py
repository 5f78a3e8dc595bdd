"""Configurations kept in a workspace are those that composing gives, or are not used."""

import json
import os
import pickle
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.conftest import TINY

from slicewise.config import cache
from slicewise.config.cache import ConfigCache
from slicewise.config.compose import compose
from slicewise.config.schema import Config
from slicewise.config.schema.base import plain
from slicewise.config.schema.model import LOSSES
from slicewise.core.errors import ConfigError
from slicewise.models.checkpoint import _interned

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.fixture
def configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the configuration files, which the program reads."""
    folder = tmp_path / "configs"
    shutil.copytree(CONFIGS, folder, ignore=shutil.ignore_patterns("final"))
    monkeypatch.setenv("SLICEWISE_CONFIGS", str(folder))
    return folder


@pytest.fixture
def composed(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """The overrides of each time that a configuration is composed."""
    calls: list[Sequence[str]] = []

    def counted(overrides: Sequence[str]) -> Config:
        calls.append(overrides)
        return compose(overrides)

    monkeypatch.setattr("slicewise.config.compose.compose", counted)
    return calls


@pytest.fixture
def kept(tmp_path: Path) -> ConfigCache:
    (tmp_path / "state").mkdir()
    return ConfigCache(tmp_path / "state" / "configs")


def entry(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "state" / "configs").iterdir()
    return path


@pytest.mark.parametrize(
    "words",
    [
        TINY,
        ("modes=production", "data=lgg", "seed=3", "data.path=/data/lgg", "training.start_from=best.pth"),
        ("recipes=multiclass", "data=shapes_multiclass", "split.folds=3"),
        ("recipes=tumour_regions", "data=brats", "data.sources.volumes.labels={1:3,2:1,3:1,4:2}"),
        ("recipes=tumour_types", "data=class_folders", "data.path=pictures"),
        ("recipes=classification_only", "evaluation.explanations=[gradcam,layercam]"),
    ],
    ids=" ".join,
)
def test_what_is_kept_is_what_composing_gives(
    words: Sequence[str], kept: ConfigCache, composed: list[Sequence[str]]
) -> None:
    expected = compose(words)
    assert repr(kept.compose(words)) == repr(kept.compose(words)) == repr(expected)
    assert len(composed) == 1
    again = kept.compose(words)
    assert again == expected
    assert again.model_dump_json() == expected.model_dump_json()
    for section in ("model", "preprocessing", "tasks"):  # as checkpoints hold them
        stored, usual = (_interned(getattr(each, section).model_dump()) for each in (again, expected))
        assert pickle.dumps(stored) == pickle.dumps(usual)
    assert plain(again) == plain(expected) == expected.model_dump(mode="json")
    assert Config.model_validate(again.model_dump()) == expected


def write(name: str, text: str) -> Callable[[Path], object]:
    return lambda configs: (configs / name).write_text(text)


@pytest.mark.parametrize(
    "change",
    [
        write("base/seed.yaml", (CONFIGS / "base" / "seed.yaml").read_text().replace("seed: 0", "seed: 7")),
        write("augmentation/new.yaml", "flip: 1\n"),
        lambda configs: (configs / "augmentation" / "strong.yaml").unlink(),
        lambda configs: (configs / "seed").mkdir(),
    ],
    ids=["changed", "new", "gone", "group"],
)
def test_another_content_of_the_files_is_composed(
    change: Callable[[Path], object], configs: Path, kept: ConfigCache, composed: list[Sequence[str]]
) -> None:
    kept.compose(())
    change(configs)
    assert kept.compose(()) == compose(())
    assert len(composed) == 2


def test_what_decides_no_configuration_changes_nothing(
    configs: Path, kept: ConfigCache, composed: list[Sequence[str]]
) -> None:
    kept.compose(())
    os.utime(configs / "config.yaml")
    (configs / "notes.txt").write_text("mine")
    (configs / "final").mkdir()
    (configs / "final" / "multitask_joint_quick.yaml").write_text("stage: joint\n")
    kept.compose(())
    assert len(composed) == 1


def test_a_link_to_a_folder_or_another_program_is_not_relied_on(
    configs: Path, tmp_path: Path, kept: ConfigCache, composed: list[Sequence[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (configs / "augmentation").rename(tmp_path / "elsewhere")
    (configs / "augmentation").symlink_to(tmp_path / "elsewhere")
    kept.compose(())
    (configs / "augmentation").unlink()
    (tmp_path / "elsewhere").rename(configs / "augmentation")
    monkeypatch.setattr(cache, "_digest_of_program", lambda: "updated since this one started")
    kept.compose(())
    assert len(composed) == 2
    assert not (tmp_path / "state" / "configs").exists()


def test_a_loss_of_another_package_is_looked_at_each_time(
    kept: ConfigCache, composed: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOSSES._registered, "mine", object())
    words = ("training.mask_loss={mine:1.0}",)
    kept.compose(words)
    kept.compose(words)
    assert len(composed) == 2
    monkeypatch.delitem(LOSSES._registered, "mine")
    with pytest.raises(ConfigError, match="'mine' is unknown"):
        kept.compose(words)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:100]),
        lambda path: path.write_bytes(path.read_bytes().replace(b'"seed": 0', b'"seed": 1')),
        lambda path: path.write_text("[]"),
        lambda path: path.write_text('{"key": 1}'),
        lambda path: path.write_bytes(b"\xff" * 10),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.chmod(0o666),  # another user may have written it
        lambda path: (path.unlink(), path.mkdir(), (path / "x").touch()),
    ],
    ids=["cut", "changed", "list", "keys", "bytes", "deep", "writable", "folder"],
)
def test_a_damaged_entry_is_composed_and_replaced(
    damage: Callable[[Path], object], tmp_path: Path, kept: ConfigCache, composed: list[Sequence[str]]
) -> None:
    kept.compose(())
    path = entry(tmp_path)
    sound = path.read_bytes()
    damage(path)
    assert kept.compose(()) == compose(())
    assert len(composed) == 2
    if path.is_file():
        assert path.read_bytes() == sound
        assert not path.stat().st_mode & 0o022


def test_an_entry_under_the_name_of_another_is_not_used(
    tmp_path: Path, kept: ConfigCache, composed: list[Sequence[str]]
) -> None:
    kept.compose(("seed=1",))
    first = entry(tmp_path)
    kept.compose(("seed=2",))
    (second,) = {*first.parent.iterdir()} - {first}
    shutil.copy(first, second)
    assert kept.compose(("seed=2",)).seed == 2
    assert json.loads(second.read_bytes())["config"]["seed"] == 2


def test_nothing_is_made_beside_a_workspace_that_is_none_yet(
    tmp_path: Path, composed: list[Sequence[str]]
) -> None:
    kept = ConfigCache(tmp_path / "state" / "configs")
    kept.compose(())
    assert [*tmp_path.iterdir()] == []
    (tmp_path / "state").mkdir()
    kept.keep()
    kept.compose(())
    assert len(composed) == 1


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "configs").write_text("a file in the way")
    assert ConfigCache(tmp_path / "state" / "configs").compose(()) == compose(())


def test_files_that_change_while_they_are_merged_are_not_kept(
    configs: Path, tmp_path: Path, kept: ConfigCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed_meanwhile(overrides: Sequence[str]) -> Config:
        (configs / "base" / "seed.yaml").write_text("# @package _global_\nseed: 5\n")
        return compose(overrides)

    monkeypatch.setattr("slicewise.config.compose.compose", changed_meanwhile)
    assert kept.compose(()).seed == 5
    assert not (tmp_path / "state" / "configs").exists()


def test_many_at_once_and_many_one_after_the_other(tmp_path: Path, kept: ConfigCache) -> None:
    folder = tmp_path / "state" / "configs"
    with ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda _: ConfigCache(folder).compose(("seed=1",)), range(8))]
    assert {config.seed for config in found} == {1}
    assert json.loads(entry(tmp_path).read_bytes())["config"]["seed"] == 1
    for number in range(20):
        (folder / f"{number}.json").write_text("{}")
    kept.compose(("seed=2",))
    assert len([*folder.iterdir()]) == 16
