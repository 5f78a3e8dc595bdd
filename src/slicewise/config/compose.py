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

from slicewise.config.guard import check_files, check_overrides, check_values
from slicewise.config.provenance import find_layers
from slicewise.config.schema import Config
from slicewise.config.validate import validate
from slicewise.core.errors import ConfigError

ENTRY = "config"
_REFUSED = (
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


def configs_dir() -> Path:
    """Return the folder of the YAML files: $SLICEWISE_CONFIGS, ./configs, or the one beside the source.

    Raises:
        ConfigError: none of them holds config.yaml.
    """
    named = os.environ.get("SLICEWISE_CONFIGS")
    beside_source = Path(__file__).resolve().parents[3] / "configs"
    candidates = [Path(named)] if named else [Path.cwd() / "configs", beside_source]
    for folder in candidates:
        if (folder / f"{ENTRY}.yaml").is_file():
            return folder.resolve()
    listed = " nor ".join(str(folder) for folder in candidates)
    raise ConfigError(f"no {ENTRY}.yaml in {listed}; run from the project's root or set SLICEWISE_CONFIGS")


def compose(overrides: Sequence[str] = (), folder: Path | None = None) -> Config:
    """Merge the files of `folder` and the overrides (Hydra syntax) into one checked configuration.

    Raises:
        ConfigError: lists every unknown key and impossible value at once, each with the file it comes from.
    """
    folder = folder or configs_dir()
    check_files(folder)
    check_overrides(overrides)
    parsed = _parse(overrides)
    _refuse_label(parsed)
    groups = [override for override in parsed if _is_group(override, folder)]
    values = [override for override in parsed if not _is_group(override, folder)]
    tree = _merge(folder, [*map(_line, groups), *map(_forced, values)])
    choices = {override.key_or_group: override.value() for override in groups}
    named = [(override.key_or_group, _line(override)) for override in values]
    check_values(tree)
    return validate(tree, lambda: find_layers(folder, ENTRY, choices, named))


def _parse(overrides: Sequence[str]) -> list[Override]:
    advice = (
        "write key=value, e.g. training.batch_size=8; a value with ~ , = or the like in quotes of its "
        "own: \"data.volumes.path='~/a,b'\""
    )
    try:
        parsed: list[Override] = OverridesParser.create().parse_overrides(list(overrides))
    except _REFUSED as error:
        raise ConfigError(f"{_first_lines(str(error))}\n{advice}") from error
    for override in parsed:
        if not override.key_or_group:
            raise ConfigError(f"{override.input_line!r} has no key; {advice}")
        if override.is_sweep_override():
            raise ConfigError(f"{override.input_line!r} lists several values, and a key has one; {advice}")
    return parsed


def _refuse_label(overrides: Sequence[Override]) -> None:
    """Refuse the name of a mode on its own: a quick run would then be on record as a production one."""
    for override in overrides:
        if override.key_or_group == "training_mode":
            raise ConfigError(
                f"{_line(override)!r} would change the name of the mode and nothing that it sets; "
                "use --training-mode quick, baseline or production"
            )


def _is_group(override: Override, folder: Path) -> bool:
    return "." not in override.key_or_group and (folder / override.key_or_group).is_dir()


def _line(override: Override) -> str:
    return override.input_line or ""


def _forced(override: Override) -> str:
    # `++` sets a key whether or not it exists: unknown keys are then reported together with all other
    # errors by the schema, and not one at a time by Hydra.
    line = _line(override)
    return line if line.startswith(("+", "~")) else f"++{line}"


def _merge(folder: Path, lines: Sequence[str]) -> dict[str, Any]:
    OmegaConf.clear_resolver("oc.env")  # whatever way it is spelled, the environment is not read
    try:
        with initialize_config_dir(str(folder), version_base="1.3"):
            tree = OmegaConf.to_container(hydra_compose(ENTRY, list(lines)), resolve=True)
    except _REFUSED as error:
        raise ConfigError(_first_lines(_said(error)) or f"{lines} cannot be read as key=value") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{folder / ENTRY}.yaml holds no keys")
    return {str(key): value for key, value in tree.items()}


def _said(error: BaseException) -> str:
    """Return the words of the first error with any, from the last one raised to its cause."""
    return str(error) or (_said(error.__cause__) if error.__cause__ else "")


def _first_lines(message: str) -> str:
    """Keep what a user can act on; Hydra's search path is noise."""
    useful = message.partition("Config search path")[0]
    return "\n".join(line.rstrip() for line in useful.splitlines() if line.strip())
