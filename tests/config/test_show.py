from pathlib import Path

import yaml

from slicewise.config.compose import compose
from slicewise.config.schema import Config
from slicewise.config.show import (
    MODES,
    STAGES,
    difference,
    final_tree,
    to_yaml,
    write_final,
    write_final_if_stale,
)


def mode(name: str) -> Config:
    return compose([f"modes={name}"])


def test_nine_final_files_byte_identical_from_run_to_run(tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in write_final(tmp_path / "one", mode)}
    second = {path.name: path.read_bytes() for path in write_final(tmp_path / "two", mode)}
    assert first == second
    assert sorted(first) == sorted(f"multitask_{stage}_{name}.yaml" for name in MODES for stage in STAGES)


def test_a_final_file_holds_its_stage_alone_and_everything_shared(tmp_path: Path) -> None:
    write_final(tmp_path, mode)
    tree = yaml.safe_load((tmp_path / "multitask_joint_baseline.yaml").read_text())
    assert tree["stage"] == "joint"
    assert list(tree["stages"]) == ["joint"]
    assert tree["training"] == mode("baseline").model_dump(mode="json")["training"]


def test_unchanged_final_files_are_left_alone(tmp_path: Path) -> None:
    write_final(tmp_path, mode)
    path = tmp_path / "multitask_joint_quick.yaml"
    before = path.stat().st_mtime_ns
    write_final(tmp_path, mode)
    assert path.stat().st_mtime_ns == before


def test_final_files_are_written_again_only_when_a_source_is_younger(tmp_path: Path) -> None:
    source, folder = tmp_path / "configs", tmp_path / "configs" / "final"
    source.mkdir()
    (source / "config.yaml").write_text("a: 1")
    calls: list[str] = []

    def counted(name: str) -> Config:
        calls.append(name)
        return mode(name)

    write_final_if_stale(source, folder, counted)
    write_final_if_stale(source, folder, counted)
    assert calls == list(MODES)
    (folder / "multitask_joint_quick.yaml").unlink()
    write_final_if_stale(source, folder, counted)
    assert len(calls) == 6


def test_the_difference_of_two_modes_names_each_key_once() -> None:
    changed = difference(mode("quick"), mode("production"))
    assert changed["training_mode"] == ("quick", "production")
    assert changed["scale.fraction"] == (0.05, 1.0)
    assert "split.train" not in changed
    assert difference(mode("quick"), mode("quick")) == {}


def test_yaml_reads_back_as_the_same_configuration() -> None:
    config = mode("quick")
    assert Config.model_validate(yaml.safe_load(to_yaml(config.model_dump(mode="json")))) == config
    assert final_tree(config, "joint")["stages"]["joint"]["epochs"] == 2
