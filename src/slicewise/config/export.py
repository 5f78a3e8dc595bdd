"""The merged configuration as YAML, the difference of two, and the nine final files."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, get_args

from slicewise.config.keys import flatten_dict
from slicewise.config.schema import Config
from slicewise.config.schema.base import plain
from slicewise.config.schema.config import TrainingMode
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json, write_json, write_text
from slicewise.core.hashing import hash_file

MODES: Final[tuple[str, ...]] = get_args(TrainingMode)


def to_yaml(tree: dict[str, Any]) -> str:
    """Return block-style YAML with the keys in the order of `tree`."""
    import yaml

    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=110)


def flatten_config(config: Config) -> dict[str, Any]:
    """Return every leaf of the configuration by its dotted key."""
    return flatten_dict(plain(config))


def compare_configs(left: Config, right: Config) -> dict[str, tuple[Any, Any]]:
    """Return {key: (left value, right value)} for every key whose value differs."""
    a, b = flatten_config(left), flatten_config(right)
    keys = [*a, *(key for key in b if key not in a)]
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}


def stage_tree(config: Config, stage: str) -> dict[str, Any]:
    """Return the configuration of one stage: everything but the other stages."""
    tree = plain(config)
    tree["stages"] = {stage: tree["stages"][stage]}
    return {"stage": stage, **tree}


def write_merged(folder: Path, compose_mode: Callable[[str], Config]) -> list[Path]:
    """Write `<recipe>_<stage>_<mode>.yaml` for all stages and modes; return the paths.

    Unchanged files are not written. `compose_mode` returns the configuration of a mode by name.
    """
    paths: list[Path] = []
    for mode in MODES:
        config = compose_mode(mode)
        for stage in config.stages:
            path, text = folder / f"{config.recipe}_{stage}_{mode}.yaml", to_yaml(stage_tree(config, stage))
            if not path.is_file() or path.read_text(encoding="utf-8") != text:
                write_text(path, text)
            paths.append(path)
    return paths


def update_merged(source: Path, folder: Path, note: Path, compose_mode: Callable[[str], Config]) -> None:
    """Write the final files unless they, and the files of `source`, have the hashes recorded in `note`.

    Modification times would not show another `source`, or an edited file.
    """
    sources = _hash_files(source)
    with suppress(FileNotFoundError, WorkspaceError):
        if read_json(note) == {"sources": sources, "files": _hash_files(folder)}:
            return
    write_merged(folder, compose_mode)
    write_json(note, {"sources": sources, "files": _hash_files(folder)})


def _hash_files(folder: Path) -> dict[str, str]:
    """Return {name: SHA-256} of the YAML files below a folder, those in `final` excepted."""
    paths = [path for path in folder.rglob("*.yaml") if path.relative_to(folder).parts[0] != "final"]
    return {path.relative_to(folder).as_posix(): hash_file(path) for path in sorted(paths)}
