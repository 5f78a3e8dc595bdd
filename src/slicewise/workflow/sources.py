"""Where a run's data sets lie, and which of their patients it uses."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slicewise.config.schema import Config, PictureSource, VolumeSource
from slicewise.core.disk import expand_user
from slicewise.core.errors import ConfigError, DataError
from slicewise.engine.step import Context, Input
from slicewise.engine.workspace import Workspace

if TYPE_CHECKING:
    from slicewise.data.cases import CaseFiles
    from slicewise.data.index import CaseIndex
    from slicewise.data.sources import FolderKind
    from slicewise.data.split.assignment import Subset
    from slicewise.data.split.predefined import PredefinedSplit, SubsetsByMember

INDEX_NAME: Final = "index.json"
FOLD_KEYS: Final = ("split.folds", "split.fold")
"""Which patients a scale takes does not depend on these."""
PREDEFINED_KEYS: Final = ("split.file", "split.folders", "split.unlisted", "split.overlap")
TRAIN_ONLY: Final = "data.pictures.train_only"


def used_sources(config: Config) -> list[VolumeSource | PictureSource]:
    """Return the sources of the run, volumes first."""
    pictures = config.data.pictures
    return [config.data.volumes, *([pictures] if pictures.kind != "none" else [])]


def source_root(source: VolumeSource | PictureSource, workspace: Workspace) -> Path:
    """Return the folder that holds a source: the one named in the configuration, or one below data/raw."""
    return expand_user(source.path) if source.path else workspace.root / "data" / "raw" / source.name


def source_layout(source: VolumeSource | PictureSource) -> "FolderKind":
    """Return how the files of a source are laid out on the disk."""
    if isinstance(source, PictureSource):
        return "pictures"
    return "lgg" if source.kind == "lgg" else "brats"


def external_inputs(config: Config) -> Mapping[str, Input]:
    """Return {key: folder} of the sources that the person named; their content is part of the identity.

    Raises:
        ConfigError: a named folder does not exist.
    """
    from slicewise.data.sources import list_read_files

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
        inputs[key] = Input(folder, partial(list_read_files, source_layout(source), folder))
    return inputs


def unused_split_keys(config: Config) -> tuple[str, ...]:
    """Return the keys of the section `split` that decide nothing here; a file counts by its content."""
    folds = () if config.split.fold else FOLD_KEYS
    return (*folds, "split.file") if config.split.is_given else (*folds, *PREDEFINED_KEYS)


def split_inputs(config: Config) -> Mapping[str, Input]:
    """Return the file that names the subsets, if the configuration has one.

    Raises:
        ConfigError: it does not exist.
        SplitError: it has another form, which a plan already says.
    """
    if config.split.file is None:
        return {}
    from slicewise.data.split.split_file import read_split_file

    path = expand_user(config.split.file)
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise ConfigError(f"split.file: {path.absolute()} {what}; correct the path, or leave the key out")
    read_split_file(path)
    return {"split.file": Input(path.parent, lambda: [path])}


def split_by_seed(
    config: Config, known: Iterable[str], labels: Mapping[str, str] | None = None
) -> dict[str, "Subset"]:
    """Put every group in `known` on a side by the seed; the same for every mode."""
    from slicewise.data.split.assignment import assign_fold, assign_subsets

    assign = assign_fold if config.split.fold else assign_subsets
    return assign(known, config.split, config.split.seed, labels)


def split_source(
    config: Config, source: VolumeSource | PictureSource, index: "CaseIndex"
) -> dict[str, "Subset"]:
    """Put every group that the index knows of a source on a side, and those that may only train there.

    Of folds, that is every group that takes part at this scale: dealt out among all that are known, a fold
    could be left without anybody to test or to choose by. A given split decides for those whom it names.

    Raises:
        DataError: the index has no case of the source.
    """
    if not index.of_source(source.name):
        raise DataError(
            f"{source.name}: no case can be used; data/index/problems.txt says why; run download again"
        )
    given = predefined_split(config, source, index)
    if given is not None:
        return given.subsets
    if config.split.fold:
        groups = {case.group for case in select_cases(without_folds(config), source, index)}
    else:
        groups = {*index.known.get(source.name, ())}
    found = index.of_source(source.name)
    train_only_groups = _train_only_groups(source, found, index.roots[source.name]) & groups
    sides = split_by_seed(config, groups - train_only_groups, group_labels(found))
    return {**sides, **dict.fromkeys(sorted(train_only_groups), "train")}


def predefined_split(
    config: Config, source: VolumeSource | PictureSource, index: "CaseIndex"
) -> "PredefinedSplit | None":
    """Return what the users' own split says of a source; None where there is none, or it names no case of it.

    Raises:
        SplitError: the split cannot be followed; see `data.given`.
    """
    if not config.split.is_given:
        return None
    from slicewise.data.split.predefined import resolve_split

    found = {
        member: sides
        for member, sides in _match_members(config, index).items()
        if member.source == source.name
    }
    return resolve_split(found, config.split, group_labels(index.of_source(source.name)), source.name)


def _match_members(config: Config, index: "CaseIndex") -> "SubsetsByMember":
    from slicewise.data.split.predefined import Member, list_members, match_folders, match_split_file
    from slicewise.data.split.split_file import read_split_file

    names = [source.name for source in used_sources(config)]
    members = [member for name in names for member in list_members(index.of_source(name), index.roots[name])]
    listed = {(member.source, member.group) for member in members}
    # Virtual patients are known before they are generated.
    members += [
        Member(name, group, group, frozenset((group,)))
        for name in names
        for group in index.known[name]
        if (name, group) not in listed
    ]
    if config.split.file is None:
        return match_folders(members)
    unusable = {
        problem.path.as_posix(): problem.what for problem in index.problems if problem.severity == "error"
    }
    return match_split_file(read_split_file(expand_user(config.split.file)), members, index.roots, unusable)


def select_phantom_patients(config: Config, source: VolumeSource, names: Iterable[str]) -> frozenset[str]:
    """Return the virtual patients that take part, of whom some may not be generated yet."""
    from slicewise.data.split.predefined import match_names, resolve_split
    from slicewise.data.split.split_file import read_split_file

    if config.split.file is not None:
        listed = read_split_file(expand_user(config.split.file))
        given = resolve_split(match_names(listed, source.name, names), config.split, None, source.name)
        if given is not None:
            return select_participants(config, source, given.subsets, is_given=True)
    return select_participants(config, source, split_by_seed(config, names))


def without_folds(config: Config) -> Config:
    """Return the configuration of the single split: who takes part does not depend on folds."""
    split = config.split.model_copy(update={"folds": 0, "fold": 0})
    return config.model_copy(update={"split": split})


def _train_only_groups(
    source: VolumeSource | PictureSource, cases: "Iterable[CaseFiles]", root: Path
) -> frozenset[str]:
    """Return the groups below the folders of `data.pictures.train_only`; discovery kept them apart."""
    if isinstance(source, VolumeSource) or not source.train_only:
        return frozenset()
    return frozenset(
        case.group for case in cases if case.images[0].relative_to(root).parts[0] in source.train_only
    )


def select_participants(
    config: Config,
    source: VolumeSource | PictureSource,
    sides: Mapping[str, "Subset"],
    labels: Mapping[str, str] | None = None,
    *,
    is_given: bool = False,
) -> frozenset[str]:
    """Return the groups of a source that take part at this scale; of a given split, all who are tested."""
    from slicewise.data.split.assignment import select_groups

    scale = config.scale
    minimum = scale.min_pictures if isinstance(source, PictureSource) else scale.min_patients
    always_used: tuple[Subset, ...] = ("test",) if is_given else ()
    return select_groups(sides, scale.fraction, minimum, config.split.seed, labels, always_used)


def select_cases(
    config: Config, source: VolumeSource | PictureSource, index: "CaseIndex"
) -> "list[CaseFiles]":
    """Return the cases of a source that take part at this scale."""
    found = index.of_source(source.name)
    given, labels = predefined_split(config, source, index), group_labels(found)
    sides = split_source(config, source, index)
    chosen = select_participants(config, source, sides, labels, is_given=given is not None)
    left_out = given.left_out if given is not None else {}
    return [case for case in found if case.group in chosen and case.key.case not in left_out]


def open_index(context: Context[Config]) -> "CaseIndex":
    """Read what download found, with every source where it lies today."""
    from slicewise.data.index import CaseIndex

    workspace, config = context.workspace, context.config
    index = CaseIndex.read(context.home("download", "index") / INDEX_NAME, workspace.root)
    return index.moved_to({source.name: source_root(source, workspace) for source in used_sources(config)})


def group_labels(cases: "Iterable[CaseFiles]") -> dict[str, str] | None:
    """Return a class for each group of pictures, to be balanced over the sides; None for volumes."""
    labels = {case.group: str(case.label) for case in cases if case.label is not None}
    return labels or None
