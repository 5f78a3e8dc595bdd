"""Which keys each file of the configuration sets."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from slicewise.config.folders import CONFIG_NAME
from slicewise.config.keys import flatten_dict
from slicewise.config.safety import YAML_LOADER
from slicewise.config.schema import Config, SplitSettings, Stage, Training
from slicewise.core.errors import ConfigError

Layers = Mapping[str, Mapping[str, Any]]
"""File or command-line override -> what it sets by dotted key, weakest first"""


def find_origin(layers: Layers, key: str) -> str:
    """Return the last layer that sets `key` or something below it, else the first that sets its section."""
    if names := _setters(layers, key):
        return names[-1]
    while key := key.rpartition(".")[0]:
        if names := _setters(layers, key):  # the others change single keys of it
            return names[0]
    return "configs/config.yaml"


def _setters(layers: Layers, section: str) -> list[str]:
    return [name for name, keys in layers.items() if any(f"{key}.".startswith(f"{section}.") for key in keys)]


def find_layers(
    folders: Sequence[Path], choices: Mapping[str, Any], overrides: Iterable[tuple[str, str]]
) -> Layers:
    """Return what was merged: the files of the defaults list, then the command line."""
    root = _read_yaml(folders[0] / f"{CONFIG_NAME}.yaml")
    layers: dict[str, Mapping[str, Any]] = {}
    for item in root.pop("defaults", []):
        if isinstance(item, Mapping):
            group, default = next(iter(item.items()))
            chosen = choices.get(group, default)
            for name in chosen if isinstance(chosen, list) else [chosen]:
                layers |= _layer(folders, group, name)
        elif item != "_self_":
            group, _, name = str(item).rpartition("/")
            layers |= _layer(folders, group, name)
    layers[f"configs/{CONFIG_NAME}.yaml"] = flatten_dict(root)
    return layers | {f"command line: {line}": {key: None} for key, line in overrides}


def _layer(folders: Sequence[Path], group: str, name: str) -> Layers:
    paths = [folder / group / f"{name}.yaml" for folder in folders]
    path = next((path for path in paths if path.is_file()), paths[0])
    first_line = path.read_text(encoding="utf-8").partition("\n")[0]
    _, separator, package = first_line.partition("@package")
    package = package.strip() if separator else group.replace("/", ".")
    keys = flatten_dict(_read_yaml(path), "" if package in ("", "_global_") else f"{package}.")
    return {f"configs/{group}/{name}.yaml" if path == paths[0] else str(path): keys}


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.load(path.read_text(encoding="utf-8"), YAML_LOADER)  # noqa: S506
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return tree if isinstance(tree, dict) else {}


def outline(folders: Sequence[Path]) -> Config:
    """Return the default configuration with its stages alone: merging all of it takes half a second."""
    stages: dict[str, Stage] = {}
    start: dict[str, Any] = {"starts_from": None}
    for keys in find_layers(folders, {}, ()).values():
        for key, value in keys.items():
            section, _, stage = key.partition(".")
            if section == "stages" and "." not in stage and value is None:
                stages.pop(stage, None)
            elif section == "stages":
                stages[stage.partition(".")[0]] = Stage.model_construct(**start)
    split: dict[str, Any] = {"folds": 0}
    training: dict[str, Any] = {"minutes": None}
    sections: dict[str, Any] = {"recipe": "recipe", "stages": stages}
    sections["split"] = SplitSettings.model_construct(**split)
    sections["training"] = Training.model_construct(**training)
    return Config.model_construct(**sections)
