"""Check a merged tree against the schema, and report all errors at once with the files that they are from."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from slicewise.config.keys import closest_match, flatten_dict, is_known, named_sections, suggest
from slicewise.config.schema import Config
from slicewise.core.errors import ConfigError

Layers = Mapping[str, Collection[str]]
"""File or command-line override -> the dotted keys it sets, weakest first"""


def validate(tree: dict[str, Any], find_layers: Callable[[], Layers]) -> Config:
    """Return the frozen configuration; `find_layers` is called only to locate errors.

    Raises:
        ConfigError: a line per fault: the key, what is wrong, and the file or override that set it.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        layers, faults = find_layers(), dict[str, str]()
        for details in error.errors():
            key = ".".join(str(part) for part in details["loc"] if not isinstance(part, int))
            key = key.removesuffix(".[key]")
            section, mapping = key.rpartition(".")[0], key.rpartition(".")[0].rpartition(".")[0]
            if details["type"] == "missing" and mapping in named_sections():
                fault = _explain_incomplete(tree, mapping, section.rpartition(".")[2])
                faults.setdefault(section, fault)
            else:
                faults[key] = _explain(details, key)
        lines = [
            f"  {k or 'configuration'}: {text}  [{_find_origin(layers, k)}]" for k, text in faults.items()
        ]
        count = f"{len(lines)} fault{'s' if len(lines) > 1 else ''} in the configuration:"
        raise ConfigError("\n".join([count, *sorted(lines)])) from error


def _explain_incomplete(tree: dict[str, Any], mapping: str, name: str) -> str:
    """Return the fault of a section without all of its keys: its name is mistyped, or it is a new one."""
    others: Any = tree
    for part in mapping.split("."):
        others = others[part]
    known = [other for other in others if other != name]
    match = closest_match(name, known)
    guess = f"did you mean {match}? " if match else ""
    return f"unknown, or not complete; {guess}there are {', '.join(known)}; a new one needs every key"


def _explain(details: ErrorDetails, key: str) -> str:
    match details["type"]:
        case "extra_forbidden":
            if is_known(key):
                return "a source of this kind has no such key; leave it out"
            return "unknown key" + suggest(key)
        case "missing" if isinstance(details["loc"][-1], int):
            return f"value number {details['loc'][-1] + 1} is missing"
        case "missing":
            return "missing; every key needs a value"
        case "value_error":
            return str(details["ctx"]["error"])
        case "literal_error":
            match = closest_match(str(details["input"]), re.findall("'([^']*)'", details["ctx"]["expected"]))
            return f"{_invalid(details)}{f'; did you mean {match}?' if match else ''}"
        case _:
            return _invalid(details)


def _invalid(details: ErrorDetails) -> str:
    return f"{details['input']!r} is invalid: {details['msg'][:1].lower()}{details['msg'][1:]}"


def _find_origin(layers: Layers, key: str) -> str:
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
    folders: Sequence[Path], entry: str, choices: Mapping[str, Any], overrides: Iterable[tuple[str, str]]
) -> Layers:
    """Return what was merged: the files of the defaults list, then the command line."""
    root = _read_yaml(folders[0] / f"{entry}.yaml")
    layers: dict[str, Collection[str]] = {}
    for item in root.pop("defaults", []):
        if isinstance(item, Mapping):
            group, default = next(iter(item.items()))
            chosen = choices.get(group, default)
            for name in chosen if isinstance(chosen, list) else [chosen]:
                layers |= _layer(folders, group, name)
        elif item != "_self_":
            group, _, name = str(item).rpartition("/")
            layers |= _layer(folders, group, name)
    layers[f"configs/{entry}.yaml"] = flatten_dict(root)
    return layers | {f"command line: {line}": [key] for key, line in overrides}


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
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return tree if isinstance(tree, dict) else {}
