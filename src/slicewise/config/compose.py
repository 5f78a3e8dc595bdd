"""Merge configs/ with the command line. The only module that knows Hydra."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from slicewise.config.keys import closest_match, is_path_key, is_text_key, known_keys, suggest
from slicewise.config.origin import find_layers
from slicewise.config.safety import check_files, check_overrides, check_text, check_values
from slicewise.config.schema import Config
from slicewise.config.validate import validate
from slicewise.core.errors import ConfigError

CONFIG_NAME = "config"
_HYDRA_ERRORS = (
    HydraException,
    OmegaConfBaseException,
    YAMLError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    AssertionError,
    RecursionError,
)
"""What Hydra raises on files and overrides that it did not expect."""


def find_configs_dir() -> Path:
    """Return the folder of the YAML files: $SLICEWISE_CONFIGS, ./configs, or the one beside the source.

    Raises:
        ConfigError: none of them holds config.yaml.
    """
    labelled = os.environ.get("SLICEWISE_CONFIGS")
    beside_source = Path(__file__).resolve().parents[3] / "configs"
    candidates = [Path(labelled)] if labelled else [Path.cwd() / "configs", beside_source]
    for folder in candidates:
        if (folder / f"{CONFIG_NAME}.yaml").is_file():
            return folder.resolve()
    listed = " nor ".join(str(folder) for folder in candidates)
    raise ConfigError(
        f"no {CONFIG_NAME}.yaml in {listed}; run from the project's root or set SLICEWISE_CONFIGS"
    )


def compose(overrides: Sequence[str] = (), folder: Path | None = None) -> Config:
    """Merge the files of `folder` and the overrides (Hydra syntax) into one checked configuration.

    Raises:
        ConfigError: lists every unknown key and impossible value at once, each with the file it comes from.
    """
    folder = folder or find_configs_dir()
    check_files(folder)
    texts = [line for line in overrides if is_text_key(_override_key(line))]
    others = [line for line in overrides if line not in texts]
    check_overrides([line for line in overrides if not is_path_key(_override_key(line))])
    parsed = [_parse(line, folder) for line in others]
    _refuse_mode_label(parsed)
    groups = [override for override in parsed if _is_group(override.key_or_group, folder)]
    values = [override for override in parsed if not _is_group(override.key_or_group, folder)]
    tree = _merge(folder, [*map(_override_line, groups), *map(_force, values)])
    for line in texts:
        _set_text(tree, line)
    choices = {override.key_or_group: override.value() for override in groups}
    labelled = [(override.key_or_group, _override_line(override)) for override in values]
    labelled += [(_override_key(line), line) for line in texts]
    check_values(tree)
    return validate(tree, lambda: find_layers(folder, CONFIG_NAME, choices, labelled))


def _override_key(line: str) -> str:
    """Return the key that an override sets; empty where it deletes one or is no key=value."""
    key, equals, _ = line.partition("=")
    return key.lstrip("+") if equals else ""


def _set_text(tree: dict[str, Any], line: str) -> None:
    """Set a text or path to what follows the `=`, character by character; Hydra's syntax has no part in it.

    Only `null`, and quotes around the whole value, keep their meaning.
    """
    key, text = _override_key(line), line.partition("=")[2]
    check_text(key, text)
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        text = text[1:-1].replace(f"\\{text[0]}", text[0])
    elif text.lower() == "null":
        _set_key(tree, key, None)
        return
    if not text and is_path_key(key):
        raise ConfigError(f"{line!r} names nothing; give {key} a path, or null for none")
    _set_key(tree, key, text)


def _set_key(tree: dict[str, Any], key: str, value: str | None) -> None:
    *sections, name = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            return  # another override put a value in place of the section, which validation reports
    tree[name] = value


def _parse(line: str, folder: Path) -> Override:
    advice = "write key=value, e.g. training.batch_size=8"
    try:
        override: Override = OverridesParser.create().parse_override(line)
    except _HYDRA_ERRORS as error:
        raise ConfigError(_explain_unparsed(line, folder)) from error
    if not override.key_or_group:
        raise ConfigError(f"{line!r} has no key; {advice}")
    if override.is_sweep_override():
        raise ConfigError(f"{line!r} lists several values, and a key has one; {advice}")
    _check_choice(override, folder)
    return override


def _explain_unparsed(line: str, folder: Path) -> str:
    """Say why an override cannot be parsed."""
    key, _, value = line.lstrip("+~").partition("=")
    if "=" not in line:
        return f"{line!r} has no value; write key=value, e.g. training.batch_size=8"
    if _is_group(key, folder):
        return _unknown_choice(key, value, folder)
    if key not in known_keys():
        return f"{key or repr(line)}: unknown key{suggest(key)}  [command line: {line}]"
    return (
        f"{line!r}: the value cannot be read; write a number, true, false, null, a word, a list [a,b] or a "
        "section {a:1,b:2}, and text with other characters in quotes of its own, e.g. "
        "\"data.pictures.train_only=['my folder']\""
    )


def _check_choice(override: Override, folder: Path) -> None:
    """Refuse the name of a file that a folder of configs/ does not hold."""
    group = override.key_or_group
    if override.is_delete() or not _is_group(group, folder):
        return
    value = override.value()
    for name in value if isinstance(value, list) else [value]:
        if isinstance(name, str) and name not in _choices(group, folder):
            raise ConfigError(_unknown_choice(group, name, folder))


def _unknown_choice(group: str, name: str, folder: Path) -> str:
    names = _choices(group, folder)
    match = closest_match(name, names)
    guess = f"did you mean {match}? " if match else ""
    return f"{group}={name}: there is no {folder / group / name}.yaml; {guess}there are: {', '.join(names)}"


def _choices(group: str, folder: Path) -> list[str]:
    return sorted(path.stem for path in (folder / group).glob("*.yaml"))


def _refuse_mode_label(overrides: Sequence[Override]) -> None:
    """Refuse the name of a mode on its own: a quick run would then be on record as a production one."""
    for override in overrides:
        if override.key_or_group == "training_mode":
            raise ConfigError(
                f"{_override_line(override)!r} would change the name of the mode and nothing that it sets; "
                "use --training-mode quick, baseline or production"
            )


def _is_group(key: str, folder: Path) -> bool:
    return key.isidentifier() and (folder / key).is_dir()


def _override_line(override: Override) -> str:
    return override.input_line or ""


def _force(override: Override) -> str:
    # `++` sets a key whether or not it exists: unknown keys are then reported together with all other
    # errors by the schema, and not one at a time by Hydra.
    line = _override_line(override)
    return line if line.startswith(("+", "~")) else f"++{line}"


def _merge(folder: Path, lines: Sequence[str]) -> dict[str, Any]:
    OmegaConf.clear_resolver("oc.env")  # whatever way it is spelled, the environment is not read
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            tree = OmegaConf.to_container(hydra_compose(CONFIG_NAME, list(lines)), resolve=True)
    except _HYDRA_ERRORS as error:
        raise ConfigError(
            _first_lines(_message_of(error)) or f"{lines} cannot be read as key=value"
        ) from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{folder / CONFIG_NAME}.yaml holds no keys")
    return {str(key): value for key, value in tree.items()}


def _message_of(error: BaseException) -> str:
    """Return the words of the first error with any, from the last one raised to its cause."""
    return str(error) or (_message_of(error.__cause__) if error.__cause__ else "")


def _first_lines(message: str) -> str:
    """Keep what a user can act on; Hydra's search path is noise."""
    useful = message.partition("Config search path")[0]
    return "\n".join(line.rstrip() for line in useful.splitlines() if line.strip())
