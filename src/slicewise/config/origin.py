"""Where a key of the merged configuration was set."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from slicewise.core.errors import ConfigError


@dataclass(frozen=True)
class Layer:
    """One file or command-line override, and the dotted keys it sets."""

    name: str
    keys: frozenset[str]


def find_origin(layers: Sequence[Layer], key: str) -> str:
    """Name the last layer that sets `key` or something below it, or else where the section above begins."""
    names = [layer.name for layer in layers if _sets(layer, key)]
    return names[-1] if names else _section_origin(layers, key.rpartition(".")[0])


def _section_origin(layers: Sequence[Layer], section: str) -> str:
    """Name the first layer that sets something in the section: the others change single keys of it."""
    if not section:
        return "configs/config.yaml"
    names = (layer.name for layer in layers if _sets(layer, section))
    return next(names, None) or _section_origin(layers, section.rpartition(".")[0])


def _sets(layer: Layer, key: str) -> bool:
    return any(known == key or known.startswith(f"{key}.") for known in layer.keys)


def find_layers(
    folder: Path, entry: str, choices: Mapping[str, Any], overrides: Iterable[tuple[str, str]]
) -> list[Layer]:
    """List what was merged, weakest first: the files of the defaults list, then the command line."""
    root = _read_yaml(folder / f"{entry}.yaml")
    defaults = [item for item in root.pop("defaults", []) if item != "_self_"]
    layers = [_layer(folder, *chosen) for item in defaults for chosen in _choices(item, choices)]
    layers.append(Layer(f"configs/{entry}.yaml", frozenset(flatten_dict(root))))
    layers.extend(Layer(f"command line: {line}", frozenset([key])) for key, line in overrides)
    return layers


def flatten_dict(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested sections to {"a.b": value}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten_dict(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def _choices(item: Any, choices: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return (group, name) of every file behind an entry of the defaults list; a group may name several."""
    if isinstance(item, Mapping):
        group, default = next(iter(item.items()))
        chosen = choices.get(group, default)
        names = chosen if isinstance(chosen, list) else [chosen]
        return [(str(group), str(name)) for name in names]
    group, _, name = str(item).rpartition("/")
    return [(group, name)]


def _layer(folder: Path, group: str, name: str) -> Layer:
    path = folder / group / f"{name}.yaml"
    package = _package(path, group)
    keys = flatten_dict(_read_yaml(path), f"{package}." if package else "")
    return Layer(f"configs/{group}/{name}.yaml", frozenset(keys))


def _package(path: Path, group: str) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    _, separator, package = first.partition("@package")
    name = package.strip() if separator else group.replace("/", ".")
    return "" if name == "_global_" else name


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return tree if isinstance(tree, dict) else {}
