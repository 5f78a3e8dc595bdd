"""Where a run's data sets lie, and which of their patients it uses."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slicewise.config.schema import Config, PictureSource, VolumeSource
from slicewise.core.errors import ConfigError, DataError
from slicewise.core.storage import expand_user
from slicewise.pipeline.step import Context, Input
from slicewise.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from slicewise.data.cases import CaseFiles
    from slicewise.data.cohort import Side
    from slicewise.data.index import CaseIndex
    from slicewise.data.sources import FolderKind

INDEX_NAME: Final = "index.json"
FOLD_KEYS: Final = ("split.folds", "split.fold")
"""Which patients a scale takes does not depend on these."""
TRAIN_ONLY: Final = "data.pictures.train_only"


def used_sources(config: Config) -> list[VolumeSource | PictureSource]:
    """Return the sources of the run, volumes first."""
    pictures = config.data.pictures
    return [config.data.volumes, *([pictures] if pictures.kind != "none" else [])]


def root_of(source: VolumeSource | PictureSource, workspace: Workspace) -> Path:
    """Return the folder that holds a source: the one named in the configuration, or one below data/raw."""
    return expand_user(source.path) if source.path else workspace.root / "data" / "raw" / source.name


def layout_of(source: VolumeSource | PictureSource) -> "FolderKind":
    """Return how the files of a source are laid out on the disk."""
    if isinstance(source, PictureSource):
        return "pictures"
    return "lgg" if source.kind == "lgg" else "brats"


def external_inputs(config: Config) -> Mapping[str, Input]:
    """Return {key: folder} of the sources that the person named; their content is part of the identity.

    Raises:
        ConfigError: a named folder does not exist.
    """
    from slicewise.data.sources import files_read

    inputs = {}
    for key, source in (
        ("data.volumes.path", config.data.volumes),
        ("data.pictures.path", config.data.pictures),
    ):
        if source.kind == "none" or not source.path:
            continue
        folder = expand_user(source.path)
        if not folder.is_dir():
            what = "is a file, not a folder" if folder.exists() else "does not exist"
            raise ConfigError(f"{key}: {folder.absolute()} {what}; mend the path or leave the key out")
        inputs[key] = Input(folder, partial(files_read, layout_of(source), folder))
    return inputs


def sides_of(
    config: Config, known: Iterable[str], labels: Mapping[str, str] | None = None
) -> dict[str, "Side"]:
    """Put every group in `known` on a side; the same for every mode."""
    from slicewise.data.cohort import assign_fold, assign_sides

    assign = assign_fold if config.split.fold else assign_sides
    return assign(known, config.split, config.split.seed, labels)


def found_sides(
    config: Config, source: VolumeSource | PictureSource, index: "CaseIndex"
) -> dict[str, "Side"]:
    """Put every group that the index knows of a source on a side, and those that may only train there.

    Of folds, that is every group that takes part at this scale: dealt out among all that are known, a fold
    could be left without anybody to test or to choose by.

    Raises:
        DataError: the index has no case of the source.
    """
    if not index.of_source(source.name):
        raise DataError(
            f"{source.name}: no case can be used; data/index/problems.txt says why; run download again"
        )
    if config.split.fold:
        groups = {case.group for case in chosen_cases(without_folds(config), source, index)}
    else:
        groups = {*index.known.get(source.name, ())}
    found = index.of_source(source.name)
    bound = _only_trained(source, found, index.roots[source.name]) & groups
    sides = sides_of(config, groups - bound, group_labels(found))
    return {**sides, **dict.fromkeys(sorted(bound), "train")}


def without_folds(config: Config) -> Config:
    """Return the configuration of the single split: who takes part does not depend on folds."""
    split = config.split.model_copy(update={"folds": 0, "fold": 0})
    return config.model_copy(update={"split": split})


def _only_trained(
    source: VolumeSource | PictureSource, cases: "Iterable[CaseFiles]", root: Path
) -> frozenset[str]:
    """Return the groups below the folders of `data.pictures.train_only`; discovery kept them apart."""
    if isinstance(source, VolumeSource) or not source.train_only:
        return frozenset()
    return frozenset(
        case.group for case in cases if case.images[0].relative_to(root).parts[0] in source.train_only
    )


def chosen_of(
    config: Config,
    source: VolumeSource | PictureSource,
    sides: Mapping[str, "Side"],
    labels: Mapping[str, str] | None = None,
) -> frozenset[str]:
    """Return the groups of a source that take part at this scale."""
    from slicewise.data.cohort import select

    scale = config.scale
    floor = scale.min_pictures if isinstance(source, PictureSource) else scale.min_patients
    return select(sides, scale.fraction, floor, config.split.seed, labels)


def chosen_cases(
    config: Config, source: VolumeSource | PictureSource, index: "CaseIndex"
) -> "list[CaseFiles]":
    """Return the cases of a source that take part at this scale."""
    found = index.of_source(source.name)
    chosen = chosen_of(config, source, found_sides(config, source, index), group_labels(found))
    return [case for case in found if case.group in chosen]


def open_index(context: Context[Config]) -> "CaseIndex":
    """Read what download found, with every source where it lies today."""
    from slicewise.data.index import CaseIndex

    workspace, config = context.workspace, context.config
    index = CaseIndex.read(context.home("download", "index") / INDEX_NAME, workspace.root)
    return index.moved_to({source.name: root_of(source, workspace) for source in used_sources(config)})


def group_labels(cases: "Iterable[CaseFiles]") -> dict[str, str] | None:
    """Return a class for each group of pictures, to be balanced over the sides; None for volumes."""
    labels = {case.group: str(case.label) for case in cases if case.label is not None}
    return labels or None
