"""The merged configuration as text: the whole tree, the difference of two, the nine final files."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from slicewise.config.origin import flatten_dict
from slicewise.config.schema import Config
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json, write_json, write_text
from slicewise.core.hashing import hash_file

MODES = ("quick", "baseline", "production")
STAGES = ("seg_warmup", "cls_head", "joint")


def to_yaml(tree: dict[str, Any]) -> str:
    """Return block-style YAML with keys in the order of the schema: the same bytes for the same tree."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=110)


def flatten_config(config: Config) -> dict[str, Any]:
    """Return every leaf of the configuration by its dotted key."""
    return flatten_dict(config.model_dump(mode="json"))


def compare_configs(left: Config, right: Config) -> dict[str, tuple[Any, Any]]:
    """Return {key: (left value, right value)} for every key whose value differs."""
    a, b = flatten_config(left), flatten_config(right)
    keys = [*a, *(key for key in b if key not in a)]
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}


def stage_tree(config: Config, stage: str) -> dict[str, Any]:
    """Return the tree of one stage: everything the run shares, and of the stages only this one."""
    tree = config.model_dump(mode="json")
    tree["stages"] = {stage: tree["stages"][stage]}
    return {"stage": stage, **tree}


def write_merged(folder: Path, compose_mode: Callable[[str], Config]) -> list[Path]:
    """Write `multitask_<stage>_<mode>.yaml` for all stages and modes; unchanged files are left alone.

    `compose_mode` returns the configuration of a mode by name. The same input gives the same bytes.
    """
    return [_write_if_changed(folder / name, text) for name, text in _render_files(compose_mode)]


def _render_files(compose_mode: Callable[[str], Config]) -> Iterator[tuple[str, str]]:
    for mode in MODES:
        config = compose_mode(mode)
        for stage in STAGES:
            yield f"multitask_{stage}_{mode}.yaml", to_yaml(stage_tree(config, stage))


def _write_if_changed(path: Path, text: str) -> Path:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return path


def update_merged(source: Path, folder: Path, note: Path, compose_mode: Callable[[str], Config]) -> None:
    """Write the final files unless they stand as they were written from the same files of `source`.

    `note` remembers the content of both; times say nothing about another `source`, or about an edit.
    """
    sources = _hash_files(source)
    if _read_note(note) == {"sources": sources, "files": _hash_files(folder)}:
        return
    write_merged(folder, compose_mode)
    write_json(note, {"sources": sources, "files": _hash_files(folder)})


def _hash_files(folder: Path) -> dict[str, str]:
    """Return {name: SHA-256} of the YAML files below a folder, final ones of a workspace there excepted."""
    paths = [path for path in folder.rglob("*.yaml") if path.relative_to(folder).parts[0] != "final"]
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in sorted(paths)}


def _read_note(note: Path) -> Any:
    try:
        return read_json(note)
    except (FileNotFoundError, WorkspaceError):
        return None
