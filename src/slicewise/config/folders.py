"""The folders of the configuration files: those of this program, and those of packages that offer recipes."""

import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Final

from slicewise.core.errors import ConfigError
from slicewise.core.registry import Registry

CONFIG_NAME = "config"
MAX_BYTES: Final = 1 << 18
"""Of a configuration file"""
RECIPES: Final[Registry[ModuleType]] = Registry("recipes", {})
"""Packages with folders such as those of configs/: recipes/NAME.yaml, also data/NAME.yaml and others"""


def find_configs_dir() -> Path:
    """Return the folder of the YAML files: $SLICEWISE_CONFIGS, ./configs, or the one beside the source.

    Raises:
        ConfigError: none of them holds config.yaml.
    """
    configured = os.environ.get("SLICEWISE_CONFIGS")
    beside_source = Path(__file__).resolve().parents[3] / "configs"
    candidates = [Path(configured)] if configured else [Path.cwd() / "configs", beside_source]
    for folder in candidates:
        if (folder / f"{CONFIG_NAME}.yaml").is_file():
            return folder.resolve()
    if find_spec("hydra") is None:
        raise ConfigError(
            "this needs more than slicewise[runtime], which predicts with exported bundles only; "
            "name a folder with bundle.json, or pip install 'slicewise[pipeline]'"
        )
    listed = " nor ".join(str(folder) for folder in candidates)
    raise ConfigError(
        f"no {CONFIG_NAME}.yaml in {listed}; run from the project's root or set SLICEWISE_CONFIGS"
    )


def config_folders(folder: Path | None = None) -> tuple[Path, ...]:
    """Return `folder`, by default `find_configs_dir()`, and those of packages that offer recipes.

    Raises:
        ConfigError: there is no folder, a package is none or cannot be imported, or a file has a name twice.
    """
    folders = [folder or find_configs_dir()]
    for name in RECIPES.names():
        paths = getattr(RECIPES[name], "__path__", ())
        if not paths:
            raise ConfigError(
                f"recipes: {name!r} must be a package, a folder with __init__.py; install another one"
            )
        own = Path(paths[0]).resolve()
        for path in own.glob("*/*.yaml"):
            if taken := [other for other in folders if (other / path.relative_to(own)).is_file()]:
                raise ConfigError(f"{path}: {taken[0]} has a file of this name; uninstall that package")
        folders.append(own)
    return tuple(folders)


def list_choices(group: str, folders: Sequence[Path]) -> list[str]:
    """Return the names of the files of a group such as `recipes`."""
    return sorted(path.stem for folder in folders for path in (folder / group).glob("*.yaml"))
