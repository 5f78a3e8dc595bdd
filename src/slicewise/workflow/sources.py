"""Where the data sets of a run lie, and how their cases are found."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slicewise.config.schema import Config, SourceSettings
from slicewise.core.disk import expand_user
from slicewise.core.errors import ConfigError
from slicewise.data.sources import open_source
from slicewise.engine.step import Context, Input
from slicewise.engine.workspace import Workspace

if TYPE_CHECKING:
    from slicewise.data.index import CaseIndex

INDEX_NAME: Final = "index.json"


def used_sources(config: Config) -> list[SourceSettings]:
    """Return the settings of the sources of the run, in order."""
    return [*config.data.sources.values()]


def source_keys(config: Config, *names: str) -> list[str]:
    """Return the dotted keys of these settings, for the sources whose kind has them."""
    return [
        f"data.sources.{key}.{name}"
        for key, source in config.data.sources.items()
        for name in names
        if name in type(source).model_fields
    ]


def source_root(source: SourceSettings, workspace: Workspace) -> Path:
    """Return the folder that holds a source: the one named in the configuration, or one below data/raw."""
    return expand_user(source.path) if source.path else workspace.root / "data" / "raw" / source.name


def external_inputs(config: Config) -> Mapping[str, Input]:
    """Return {key: folder} of the sources with a configured path; their content is part of the identity.

    Raises:
        ConfigError: a configured folder does not exist.
    """
    inputs = {}
    for name, source in config.data.sources.items():
        if not source.path:
            continue
        key, folder = f"data.sources.{name}.path", expand_user(source.path)
        if not folder.is_dir():
            what = "is a file, not a folder" if folder.exists() else "does not exist"
            raise ConfigError(f"{key}: {folder.absolute()} {what}; correct the path or leave the key out")
        inputs[key] = Input(folder, partial(open_source(source).read_files, folder))
    return inputs


def open_index(context: Context[Config]) -> "CaseIndex":
    """Return the index of the download, with every source where it lies now."""
    from slicewise.data.index import CaseIndex

    workspace, config = context.workspace, context.config
    index = CaseIndex.read(context.home("download", "index") / INDEX_NAME, workspace.root)
    return index.moved_to({source.name: source_root(source, workspace) for source in used_sources(config)})
