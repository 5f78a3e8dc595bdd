"""Where the data sets of a run lie, and how their cases are found."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slicewise.config.schema import Config, SourceSettings
from slicewise.config.schema.sources import BratsSettings, ClassFoldersSettings
from slicewise.core.disk import expand_user
from slicewise.core.errors import ConfigError
from slicewise.domain.labels import LABEL_FORMATS, LabelMap
from slicewise.engine.step import Context, Input
from slicewise.engine.workspace import Workspace

if TYPE_CHECKING:
    from slicewise.data.cases import CaseFiles
    from slicewise.data.index import CaseIndex
    from slicewise.data.problems import Problem
    from slicewise.data.sources import FolderKind

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


def source_layout(source: SourceSettings) -> "FolderKind":
    """Return how the files of a source are laid out on the disk."""
    if source.unit == "picture":
        return "pictures"
    return "lgg" if source.kind == "lgg" else "brats"


def discover_source(source: SourceSettings, root: Path) -> "tuple[Sequence[CaseFiles], Sequence[Problem]]":
    """Return the cases of a source below `root`, and what is wrong with its files."""
    from slicewise.data.sources import discover

    layout = source_layout(source)
    if isinstance(source, ClassFoldersSettings):
        return discover(
            layout,
            root,
            source.name,
            source.slot,
            group_duplicates=source.duplicates == "group",
            train_only=source.train_only,
        )
    if not isinstance(source, BratsSettings):
        return discover(layout, root, source.name)
    labels: LabelMap | None
    if isinstance(source.labels, str):  # without a format, names and values of the files define the labels
        labels = LABEL_FORMATS.get(source.labels)
    else:
        labels = tuple((int(value), label) for value, label in source.labels.items())
    return discover(layout, root, source.name, mask_name=source.mask, labels=labels)


def external_inputs(config: Config) -> Mapping[str, Input]:
    """Return {key: folder} of the sources with a configured path; their content is part of the identity.

    Raises:
        ConfigError: a configured folder does not exist.
    """
    from slicewise.data.sources import list_read_files

    inputs = {}
    for name, source in config.data.sources.items():
        if not source.path:
            continue
        key, folder = f"data.sources.{name}.path", expand_user(source.path)
        if not folder.is_dir():
            what = "is a file, not a folder" if folder.exists() else "does not exist"
            raise ConfigError(f"{key}: {folder.absolute()} {what}; correct the path or leave the key out")
        inputs[key] = Input(folder, partial(list_read_files, source_layout(source), folder))
    return inputs


def open_index(context: Context[Config]) -> "CaseIndex":
    """Return the index of the download, with every source where it lies now."""
    from slicewise.data.index import CaseIndex

    workspace, config = context.workspace, context.config
    index = CaseIndex.read(context.home("download", "index") / INDEX_NAME, workspace.root)
    return index.moved_to({source.name: source_root(source, workspace) for source in used_sources(config)})
