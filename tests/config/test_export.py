import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import yaml

from slicewise.config.compose import compose
from slicewise.config.export import (
    MODES,
    compare_configs,
    stage_tree,
    to_yaml,
    update_merged,
    write_merged,
)
from slicewise.config.schema import Config


@cache
def mode(name: str) -> Config:
    return compose([f"modes={name}"])


def test_nine_final_files_byte_identical_from_run_to_run(tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in write_merged(tmp_path / "one", mode)}
    second = {path.name: path.read_bytes() for path in write_merged(tmp_path / "two", mode)}
    assert first == second
    assert sorted(first) == sorted(
        f"multitask_{stage}_{name}.yaml" for name in MODES for stage in mode(name).stages
    )


def test_a_final_file_holds_its_stage_alone_and_everything_shared(tmp_path: Path) -> None:
    write_merged(tmp_path, mode)
    tree = yaml.safe_load((tmp_path / "multitask_joint_baseline.yaml").read_text())
    assert tree["stage"] == "joint"
    assert list(tree["stages"]) == ["joint"]
    assert tree["training"] == mode("baseline").model_dump(mode="json")["training"]


def test_unchanged_final_files_are_left_alone(tmp_path: Path) -> None:
    write_merged(tmp_path, mode)
    path = tmp_path / "multitask_joint_quick.yaml"
    before = path.stat().st_mtime_ns
    write_merged(tmp_path, mode)
    assert path.stat().st_mtime_ns == before


@pytest.fixture
def writer(tmp_path: Path) -> Callable[..., list[str]]:
    """Write the final files if they are stale; return the modes that were composed for it."""

    def write(source: Path = tmp_path / "configs") -> list[str]:
        calls: list[str] = []

        def counted(name: str) -> Config:
            calls.append(name)
            return mode(name)

        update_merged(source, tmp_path / "configs" / "final", tmp_path / "final.json", counted)
        return calls

    for name, text in (("configs", "a: 1"), ("others", "a: 2")):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data" / "mine.yaml").write_text(text)
        os.utime(tmp_path / name / "data" / "mine.yaml", (1, 1))
    assert write() == list(MODES)
    return write


def test_nothing_is_composed_while_nothing_changes(writer: Callable[..., list[str]], tmp_path: Path) -> None:
    assert writer() == []
    (tmp_path / "configs" / "data" / "mine.yaml").touch()
    assert writer() == []


@pytest.mark.parametrize("change", ["edit", "delete", "add", "elsewhere"])
def test_other_sources_are_noticed_however_old_they_are(
    writer: Callable[..., list[str]], tmp_path: Path, change: str
) -> None:
    path = tmp_path / "configs" / "data" / "mine.yaml"
    if change == "edit":
        path.write_text("a: 3")
        os.utime(path, (1, 1))
    if change == "delete":
        path.unlink()
    if change == "add":
        path.with_name("more.yaml").touch()
    source = tmp_path / ("others" if change == "elsewhere" else "configs")
    assert writer(source) == list(MODES)
    assert writer(source) == []


@pytest.mark.parametrize("damage", ["edit", "delete", "note"])
def test_a_final_file_that_is_not_as_it_was_written_is_written_again(
    writer: Callable[..., list[str]], tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "configs" / "final" / "multitask_joint_quick.yaml"
    before = path.read_text()
    if damage == "edit":
        path.write_text("mine: 1")
    if damage == "delete":
        path.unlink()
    if damage == "note":
        (tmp_path / "final.json").write_text("{")
    assert writer() == list(MODES)
    assert path.read_text() == before
    assert writer() == []


def test_the_difference_of_two_modes_names_each_key_once() -> None:
    changed = compare_configs(mode("quick"), mode("production"))
    assert changed["training_mode"] == ("quick", "production")
    assert changed["scale.fraction"] == (0.05, 1.0)
    assert "split.train" not in changed
    assert compare_configs(mode("quick"), mode("quick")) == {}


def test_yaml_reads_back_as_the_same_configuration() -> None:
    config = mode("quick")
    assert Config.model_validate(yaml.safe_load(to_yaml(config.model_dump(mode="json")))) == config
    assert stage_tree(config, "joint")["stages"]["joint"]["epochs"] == 4
