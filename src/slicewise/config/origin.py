"""The file or override that set a key of the merged configuration."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slicewise.config.keys import flatten_dict
from slicewise.core.errors import ConfigError


@dataclass(frozen=True)
class Layer:
    """One file or command-line override, and the dotted keys it sets."""

    name: str
    keys: frozenset[str]


def find_origin(layers: Sequence[Layer], key: str) -> str:
    """Return the last layer that sets `key` or something below it, else the first that sets its section."""
    names = [layer.name for layer in layers if _sets(layer, key)]
    return names[-1] if names else _section_origin(layers, key.rpartition(".")[0])


def _section_origin(layers: Sequence[Layer], section: str) -> str:
    """Return the first layer that sets something in the section: the others change single keys of it."""
    if not section:
        return "configs/config.yaml"
    names = (layer.name for layer in layers if _sets(layer, section))
    return next(names, None) or _section_origin(layers, section.rpartition(".")[0])


def _sets(layer: Layer, key: str) -> bool:
    return any(known == key or known.startswith(f"{key}.") for known in layer.keys)


def find_layers(
    folders: Sequence[Path], entry: str, choices: Mapping[str, Any], overrides: Iterable[tuple[str, str]]
) -> list[Layer]:
    """Return what was merged, weakest first: the files of the defaults list, then the command line."""
    root = _read_yaml(folders[0] / f"{entry}.yaml")
    layers: list[Layer] = []
    for item in root.pop("defaults", []):
        if isinstance(item, Mapping):
            group, default = next(iter(item.items()))
            chosen = choices.get(group, default)
            layers += [
                _layer(folders, group, name) for name in (chosen if isinstance(chosen, list) else [chosen])
            ]
        elif item != "_self_":
            group, _, name = str(item).rpartition("/")
            layers.append(_layer(folders, group, name))
    layers.append(Layer(f"configs/{entry}.yaml", frozenset(flatten_dict(root))))
    layers.extend(Layer(f"command line: {line}", frozenset([key])) for key, line in overrides)
    return layers


def _layer(folders: Sequence[Path], group: str, name: str) -> Layer:
    paths = [folder / group / f"{name}.yaml" for folder in folders]
    path = next((path for path in paths if path.is_file()), paths[0])
    first_line = path.read_text(encoding="utf-8").partition("\n")[0]
    _, separator, package = first_line.partition("@package")
    package = package.strip() if separator else group.replace("/", ".")
    keys = flatten_dict(_read_yaml(path), "" if package in ("", "_global_") else f"{package}.")
    return Layer(f"configs/{group}/{name}.yaml" if path == paths[0] else str(path), frozenset(keys))


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return tree if isinstance(tree, dict) else {}
