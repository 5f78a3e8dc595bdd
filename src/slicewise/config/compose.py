"""Merge configs/ with the command line, and check the result. The only module that imports Hydra."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from yaml import YAMLError

from slicewise.config.folders import CONFIG_NAME, config_folders, list_choices
from slicewise.config.keys import (
    closest_match,
    flatten_dict,
    is_known,
    is_path_key,
    is_text_key,
    named_sections,
    suggest,
)
from slicewise.config.layers import Layers, find_layers, find_origin
from slicewise.config.safety import check_files, check_overrides, check_text, check_values, read_yaml
from slicewise.config.schema import Config
from slicewise.core.errors import ConfigError

_HYDRA_ERRORS = (
    HydraException, OmegaConfBaseException, YAMLError,
    ValueError, TypeError, AttributeError, LookupError, AssertionError, RecursionError,
)  # fmt: skip
"""What Hydra raises on unexpected files and overrides."""


def compose(
    overrides: Sequence[str] = (),
    folder: Path | None = None,
    adapt: Callable[[dict[str, Any]], None] = lambda _: None,
) -> Config:
    """Return the configuration merged from the files of `folder` and the overrides (Hydra syntax).

    `adapt` changes the merged tree before it is checked.

    Raises:
        ConfigError: lists all unknown keys and invalid values, each with the file it comes from.
    """
    folders = config_folders(folder)
    for each in folders:
        check_files(each)
    texts = [line for line in overrides if is_text_key(_override_key(line))]
    check_overrides([line for line in overrides if not is_path_key(_override_key(line))])
    parsed = [(line, _parse(line, folders)) for line in overrides if line not in texts]
    groups = [(line, each) for line, each in parsed if _is_group(each.key_or_group, folders)]
    values = [(each.key_or_group, line) for line, each in parsed if (line, each) not in groups]
    # `++` sets a key whether or not it exists: the schema then reports unknown keys with all other errors.
    forced = [line if line.startswith(("+", "~")) else f"++{line}" for _, line in values]
    tree = _merge(folders, [*(line for line, _ in groups), *forced])
    for line in texts:
        _set_text(tree, line)
    adapt(tree)
    check_values(tree)
    choices = {each.key_or_group: each.value() for _, each in groups}
    values += [(_override_key(line), line) for line in texts]
    return _validate(tree, lambda: find_layers(folders, choices, values))


def compose_file(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration of one file that holds every key, as `slicewise config` prints it.

    Overrides set single keys of it; what a group such as `data=` would choose is in the file.

    Raises:
        ConfigError: the file cannot be read, or as `compose`.
    """
    tree = read_yaml(path)
    check_overrides([line for line in overrides if not is_path_key(_override_key(line))])
    for line in overrides:
        key = _override_key(line) or line.lstrip("~")
        is_section = isinstance(tree.get(key), dict) and not line.partition("=")[2].startswith("{")
        if key.isidentifier() and (key not in tree or is_section):
            raise ConfigError(
                f"{line!r}: {path} holds every key, and a choice such as data= or recipes= comes too late; "
                "set single keys, or leave --config out"
            )
        if is_text_key(key) and "=" in line:
            _set_text(tree, line)
        else:
            _set_value(tree, _parse(line, ()))
    check_values(tree)
    whole = dict.fromkeys(Config.model_fields) | flatten_dict(tree)
    layers = {
        str(path): whole,
        **{f"command line: {line}": {_override_key(line): None} for line in overrides},
    }
    return _validate(tree, lambda: layers)


def _set_value(tree: dict[str, Any], override: Override) -> None:
    """Set, or with `~` delete, the key of an override; the schema reports unknown ones."""
    *sections, name = override.key_or_group.split(".")
    for section in sections:
        below = tree.setdefault(section, {})
        if not isinstance(below, dict):
            return
        tree = below
    if override.is_delete():
        tree.pop(name, None)
    else:
        value = OmegaConf.to_container(OmegaConf.create({"value": override.value()}), resolve=True)
        assert isinstance(value, dict)
        both = isinstance(value["value"], dict) and isinstance(tree.get(name), dict)
        tree[name] = {**tree[name], **value["value"]} if both else value["value"]


def _override_key(line: str) -> str:
    """Return the key that an override sets; empty where it deletes one or is no key=value."""
    key, equals, _ = line.partition("=")
    return key.lstrip("+") if equals else ""


def _set_text(tree: dict[str, Any], line: str) -> None:
    """Set a text or path to everything after the `=`, without Hydra's syntax.

    Only `null`, and quotes around the whole value, keep their meaning.
    """
    key, text = _override_key(line), line.partition("=")[2]
    check_text(key, text)
    value: str | None = None if text.lower() == "null" else text
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        value = text[1:-1].replace(f"\\{text[0]}", text[0])
    if value == "" and is_path_key(key):
        raise ConfigError(f"{line!r} has an empty value; give {key} a path, or null for none")
    *sections, name = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            return  # another override set the section to a value: validation reports it
    tree[name] = value


def _parse(line: str, folders: Sequence[Path]) -> Override:
    advice = "write key=value, e.g. training.batch_size=8"
    try:
        override: Override = OverridesParser.create().parse_override(line)
    except _HYDRA_ERRORS as error:
        raise ConfigError(_explain_unparsed(line, folders)) from error
    key = override.key_or_group
    if not key:
        raise ConfigError(f"{line!r} has no key; {advice}")
    if override.is_sweep_override():
        raise ConfigError(f"{line!r} lists several values, and a key has one; {advice}")
    if key == "training_mode":  # a quick run would then be on record as a production one
        raise ConfigError(
            f"{line!r} would change the name of the mode and nothing that it sets; "
            "use --training-mode quick, baseline or production"
        )
    if _is_group(key, folders) and not override.is_delete():
        value: Any = override.value()
        names = value if isinstance(value, list) else [value]
        unknown = [name for name in names if isinstance(name, str) and name not in list_choices(key, folders)]
        if unknown:
            raise ConfigError(_unknown_choice(key, unknown[0], folders))
    return override


def _explain_unparsed(line: str, folders: Sequence[Path]) -> str:
    """Return why an override cannot be parsed."""
    key, _, value = line.lstrip("+~").partition("=")
    if "=" not in line:
        return f"{line!r} has no value; write key=value, e.g. training.batch_size=8"
    if _is_group(key, folders):
        return _unknown_choice(key, value, folders)
    if not is_known(key):
        return f"{key or repr(line)}: unknown key{suggest(key)}  [command line: {line}]"
    return (
        f"{line!r}: the value cannot be read; write a number, true, false, null, a word, a list [a,b] or a "
        "section {a:1,b:2}; put text with other characters in quotes"
    )


def _unknown_choice(group: str, name: str, folders: Sequence[Path]) -> str:
    names = list_choices(group, folders)
    match = closest_match(name, names)
    guess = f"did you mean {match}? " if match else ""
    return (
        f"{group}={name}: there is no {folders[0] / group / name}.yaml; {guess}there are: {', '.join(names)}"
    )


def _is_group(key: str, folders: Sequence[Path]) -> bool:
    return bool(folders) and key.isidentifier() and (folders[0] / key).is_dir()


def _merge(folders: Sequence[Path], lines: Sequence[str]) -> dict[str, Any]:
    others = ",".join(f"'file://{folder}'" for folder in folders[1:])
    search = [f"hydra.searchpath=[{others}]"] if others else []
    OmegaConf.clear_resolver("oc.env")  # the environment is never read, however the resolver is spelled
    try:
        with initialize_config_dir(str(folders[0]), version_base="1.3"):
            tree = OmegaConf.to_container(hydra_compose(CONFIG_NAME, [*lines, *search]), resolve=True)
    except _HYDRA_ERRORS as error:
        cause: BaseException | None = error
        while cause and not str(cause):
            cause = cause.__cause__
        useful = str(cause or "").partition("Config search path")[0]
        message = "\n".join(line.rstrip() for line in useful.splitlines() if line.strip())
        raise ConfigError(message or f"{lines} cannot be read as key=value") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{folders[0] / CONFIG_NAME}.yaml holds no keys")
    return {str(key): value for key, value in tree.items()}


def _validate(tree: dict[str, Any], layers_of: Callable[[], Layers]) -> Config:
    """Return the frozen configuration; `layers_of` is called only to locate errors.

    Raises:
        ConfigError: a line per fault: the key, what is wrong, and the file or override that set it.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        layers, faults = layers_of(), dict[str, str]()
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
            f"  {k or 'configuration'}: {text}  [{find_origin(layers, k)}]" for k, text in faults.items()
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
