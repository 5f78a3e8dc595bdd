"""The merged configuration as text: the whole tree, the difference of two, the nine final files."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from slicewise.config.provenance import dotted
from slicewise.config.schema import Config
from slicewise.core.files import write_text

MODES = ("quick", "baseline", "production")
STAGES = ("seg_warmup", "cls_head", "joint")


def to_yaml(tree: dict[str, Any]) -> str:
    """Return block-style YAML with keys in the order of the schema: the same bytes for the same tree."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=110)


def flatten(config: Config) -> dict[str, Any]:
    """Return every leaf of the configuration by its dotted key."""
    return dotted(config.model_dump(mode="json"))


def difference(left: Config, right: Config) -> dict[str, tuple[Any, Any]]:
    """Return {key: (left value, right value)} for every key whose value differs."""
    a, b = flatten(left), flatten(right)
    keys = [*a, *(key for key in b if key not in a)]
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}


def final_tree(config: Config, stage: str) -> dict[str, Any]:
    """Return the tree of one stage: everything the run shares, and of the stages only this one."""
    tree = config.model_dump(mode="json")
    tree["stages"] = {stage: tree["stages"][stage]}
    return {"stage": stage, **tree}


def write_final(folder: Path, compose_mode: Callable[[str], Config]) -> list[Path]:
    """Write `multitask_<stage>_<mode>.yaml` for all stages and modes; unchanged files are left alone.

    `compose_mode` returns the configuration of a mode by name. The same input gives the same bytes.
    """
    return [_write_changed(folder / name, text) for name, text in _final_files(compose_mode)]


def _final_files(compose_mode: Callable[[str], Config]) -> Iterator[tuple[str, str]]:
    for mode in MODES:
        config = compose_mode(mode)
        for stage in STAGES:
            yield f"multitask_{stage}_{mode}.yaml", to_yaml(final_tree(config, stage))


def _write_changed(path: Path, text: str) -> Path:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return path


def write_final_if_stale(source: Path, folder: Path, compose_mode: Callable[[str], Config]) -> None:
    """Write the final files unless all of them are younger than every file of `source`."""
    names = [folder / f"multitask_{stage}_{mode}.yaml" for mode in MODES for stage in STAGES]
    newest = max(path.stat().st_mtime_ns for path in source.rglob("*.yaml") if folder not in path.parents)
    if any(not path.is_file() or path.stat().st_mtime_ns < newest for path in names):
        write_final(folder, compose_mode)
        for path in names:
            path.touch()
