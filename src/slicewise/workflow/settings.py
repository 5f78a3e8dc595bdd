"""The part of the configuration that decides an output, and the command that reproduces it."""

import json
import shlex
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

from pydantic import BaseModel

from slicewise.config.keys import flatten_dict
from slicewise.config.schema import Config
from slicewise.config.schema.base import plain
from slicewise.core.errors import ConfigError
from slicewise.core.redact import redact
from slicewise.domain.wording import wording

_FOLDER_PLACEHOLDER: Final = "FOLDER"
_FILE_PLACEHOLDER: Final = "FILE"
_MISSING: Final = object()


def select_settings(config: Config, *keys: str, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return {dotted key: value} of the named sections and keys, sections leaf by leaf.

    The values are those of JSON, so that a stored receipt equals the current settings.
    """
    settings: dict[str, Any] = {}
    for key in keys:
        value: Any = config
        for part in key.split("."):
            value = value[part] if isinstance(value, Mapping) else getattr(value, part)
        tree = plain(value)
        leaves = flatten_dict(tree, f"{key}.") if isinstance(value, BaseModel) else {key: tree}
        settings.update({name: leaf for name, leaf in leaves.items() if name not in without})
    return settings


def evaluation_settings(config: Config) -> dict[str, Any]:
    """Return the settings of an evaluation, of one split or of pooled folds."""
    return select_settings(config, "evaluation", "seed", "data.name", "data.synthetic")


def recipe_wording(config: Config) -> AbstractContextManager[None]:
    """Return the block in which reports and figures have the words of the recipe."""
    segmentation, classification = config.tasks.segmentation, config.tasks.classification
    # Of tumour or not there are scores of slices and of patients, which are two things for pictures too.
    several = classification is None or classification.has_several
    return wording(
        config.preprocessing.channels,
        segmentation.classes if segmentation else (),
        pictures=several and all(source.unit == "picture" for source in config.data.sources.values()),
        tiles=config.preprocessing.fit == "tile",
    )


def results_config(config: Config) -> dict[str, Any]:
    """Return what decides the results: no machine, serving or tracking; placeholders for external paths."""
    left_out = ("runtime", "serving", "tracking", "cluster")
    tree = {section: each for section, each in plain(config).items() if section not in left_out}
    for source in tree["data"]["sources"].values():
        if source["path"] is not None:
            source["path"] = _FOLDER_PLACEHOLDER
    if config.training.start_from is not None:
        tree["training"]["start_from"] = _FILE_PLACEHOLDER
    return tree


def reproduce_command(config: Config) -> str:
    """Return a command that composes the same settings from the configuration files."""
    from slicewise.config.compose import compose

    groups = [f"modes={config.training_mode}", f"data={config.data.name}"]
    try:
        defaults = compose(groups)
    except ConfigError:  # no file has this name: every key is spelled out
        groups.pop()
        defaults = compose(groups)
    default_values = flatten_dict(results_config(defaults))
    kinds, usual = ({k: s.kind for k, s in each.data.sources.items()} for each in (config, defaults))
    removed = [f"stages.{name}=null" for name in defaults.stages if name not in config.stages]
    removed += [f"data.sources.{key}=null" for key in usual if key not in kinds]
    if any(kinds[key] != usual[key] for key in kinds.keys() & usual.keys()):
        removed = [line for line in removed if not line.startswith("data.")]
        removed += ["~data.sources"]  # another kind does not have the keys of the default
        default_values = {k: v for k, v in default_values.items() if not k.startswith("data.sources.")}
    keys = removed + [
        f"{key}={json.dumps(value, ensure_ascii=False)}"
        for key, value in flatten_dict(results_config(config)).items()
        if default_values.get(key, _MISSING) != value
    ]
    words = ["slicewise", "run", "--training-mode", config.training_mode, *groups[1:], *keys]
    return redact(" ".join(map(shlex.quote, words)))
