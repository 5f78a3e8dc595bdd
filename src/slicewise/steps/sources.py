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
    from slicewise.data.given import Found, Given
    from slicewise.data.index import CaseIndex
    from slicewise.data.sources import FolderKind

INDEX_NAME: Final = "index.json"
FOLD_KEYS: Final = ("split.folds", "split.fold")
"""Which patients a scale takes does not depend on these."""
GIVEN_KEYS: Final = ("split.file", "split.folders", "split.unlisted", "split.overlap")
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


def unused_split_keys(config: Config) -> tuple[str, ...]:
    """Return the keys of the section `split` that decide nothing here; a file counts by its content."""
    folds = () if config.split.fold else FOLD_KEYS
    return (*folds, "split.file") if config.split.is_given else (*folds, *GIVEN_KEYS)


def split_inputs(config: Config) -> Mapping[str, Input]:
    """Return the file that names the subsets, if the configuration has one.

    Raises:
        ConfigError: it does not exist.
        SplitError: it has another form, which a plan already says.
    """
    if config.split.file is None:
        return {}
    from slicewise.data.split_file import read_split_file

    path = expand_user(config.split.file)
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise ConfigError(f"split.file: {path.absolute()} {what}; correct the path, or leave the key out")
    read_split_file(path)
    return {"split.file": Input(path.parent, lambda: [path])}


def sides_of(
    config: Config, known: Iterable[str], labels: Mapping[str, str] | None = None
) -> dict[str, "Side"]:
    """Put every group in `known` on a side by the seed; the same for every mode."""
    from slicewise.data.cohort import assign_fold, assign_sides

    assign = assign_fold if config.split.fold else assign_sides
    return assign(known, config.split, config.split.seed, labels)


def found_sides(
    config: Config, source: VolumeSource | PictureSource, index: "CaseIndex"
) -> dict[str, "Side"]:
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
    given = given_split(config, source, index)
    if given is not None:
        return given.sides
    if config.split.fold:
        groups = {case.group for case in chosen_cases(without_folds(config), source, index)}
    else:
        groups = {*index.known.get(source.name, ())}
    found = index.of_source(source.name)
    bound = _only_trained(source, found, index.roots[source.name]) & groups
    sides = sides_of(config, groups - bound, group_labels(found))
    return {**sides, **dict.fromkeys(sorted(bound), "train")}


def given_split(config: Config, source: VolumeSource | PictureSource, index: "CaseIndex") -> "Given | None":
    """Return what the users' own split says of a source; None where there is none, or it names no case of it.

    Raises:
        SplitError: the split cannot be followed; see `data.given`.
    """
    if not config.split.is_given:
        return None
    from slicewise.data.given import settle

    found = {member: sides for member, sides in _named(config, index).items() if member.source == source.name}
    return settle(found, config.split, group_labels(index.of_source(source.name)), source.name)


def _named(config: Config, index: "CaseIndex") -> "Found":
    from slicewise.data.given import Member, by_file, by_folder, members_of
    from slicewise.data.split_file import read_split_file

    names = [source.name for source in used_sources(config)]
    members = [member for name in names for member in members_of(index.of_source(name), index.roots[name])]
    listed = {(member.source, member.group) for member in members}
    # Virtual patients are known before they are generated.
    members += [
        Member(name, group, group, frozenset((group,)))
        for name in names
        for group in index.known[name]
        if (name, group) not in listed
    ]
    if config.split.file is None:
        return by_folder(members)
    unusable = {
        problem.path.as_posix(): problem.what for problem in index.problems if problem.severity == "error"
    }
    return by_file(read_split_file(expand_user(config.split.file)), members, index.roots, unusable)


def chosen_names(config: Config, source: VolumeSource, names: Iterable[str]) -> frozenset[str]:
    """Return the virtual patients that take part, of whom some may not be generated yet."""
    from slicewise.data.given import named_before, settle
    from slicewise.data.split_file import read_split_file

    if config.split.file is not None:
        listed = read_split_file(expand_user(config.split.file))
        given = settle(named_before(listed, source.name, names), config.split, None, source.name)
        if given is not None:
            return chosen_of(config, source, given.sides, is_given=True)
    return chosen_of(config, source, sides_of(config, names))


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
    *,
    is_given: bool = False,
) -> frozenset[str]:
    """Return the groups of a source that take part at this scale; of a given split, all who are tested."""
    from slicewise.data.cohort import select

    scale = config.scale
    floor = scale.min_pictures if isinstance(source, PictureSource) else scale.min_patients
    whole: tuple[Side, ...] = ("test",) if is_given else ()
    return select(sides, scale.fraction, floor, config.split.seed, labels, whole)


def chosen_cases(
    config: Config, source: VolumeSource | PictureSource, index: "CaseIndex"
) -> "list[CaseFiles]":
    """Return the cases of a source that take part at this scale."""
    found = index.of_source(source.name)
    given, labels = given_split(config, source, index), group_labels(found)
    sides = found_sides(config, source, index)
    chosen = chosen_of(config, source, sides, labels, is_given=given is not None)
    left_out = given.left_out if given is not None else {}
    return [case for case in found if case.group in chosen and case.key.case not in left_out]


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
