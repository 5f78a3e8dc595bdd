"""Sources, patients and pictures of a run: where they lie, which take part, and in which subset."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slicewise.config.schema import Config, SourceSettings
from slicewise.core.disk import expand_user
from slicewise.core.errors import ConfigError, DataError
from slicewise.data.cases import CaseFiles
from slicewise.data.index import CaseIndex
from slicewise.data.sources import open_source
from slicewise.data.split.assignment import Subset, assign_fold, assign_subsets, select_groups
from slicewise.data.split.predefined import (
    Member,
    PredefinedSplit,
    SubsetsByMember,
    list_members,
    match_folders,
    match_names,
    match_split_file,
    resolve_split,
)
from slicewise.data.split.split_file import read_split_file
from slicewise.engine.step import Context, Input
from slicewise.engine.workspace import Workspace

if TYPE_CHECKING:
    from slicewise.data.index import CaseIndex


FOLD_KEYS: Final = ("split.folds", "split.fold")
"""They do not decide which patients a scale takes."""
EXTERNAL_KEYS: Final = ("split.external",)
PREDEFINED_KEYS: Final = ("split.file", "split.folders", "split.unlisted", "split.overlap")
INDEX_NAME: Final = "index.json"


def unused_split_keys(config: Config) -> tuple[str, ...]:
    """Return the keys of the section `split` without an effect; of a file only the content counts."""
    folds = (*(() if config.split.fold else FOLD_KEYS), *(() if config.split.external else EXTERNAL_KEYS))
    by_folders = any(_may_have_folders(config, source) for source in config.data.sources.values())
    if config.split.is_given or by_folders:
        return (*folds, "split.file")
    return (*folds, *PREDEFINED_KEYS)


def _may_have_folders(config: Config, source: SourceSettings) -> bool:
    """Whether folders named train, val and test are the split of a source without being asked for."""
    split = config.split
    return split.folders is None and split.file is None and not split.folds and source.honours_folders


def split_inputs(config: Config) -> Mapping[str, Input]:
    """Return the file that names the subsets, if the configuration has one.

    Raises:
        ConfigError: it does not exist.
        SplitError: its form is wrong; checked here so that a plan reports it.
    """
    if config.split.file is None:
        return {}
    path = expand_user(config.split.file)
    if not path.is_file():
        what = "is not a file" if path.exists() else "does not exist"
        raise ConfigError(f"split.file: {path.absolute()} {what}; correct the path, or leave the key out")
    read_split_file(path)
    return {"split.file": Input(path.parent, lambda: [path])}


def split_source(config: Config, source: SourceSettings, index: CaseIndex) -> dict[str, Subset]:
    """Return the subset of every known group of a source; all of a `train_only` source are in train.

    With folds, these are the groups that take part at this scale: assigned over all known groups, a fold
    could be left without test or validation groups. A predefined split decides for the groups that it names.

    Raises:
        DataError: the index has no case of the source.
    """
    cases = index.of_source(source.name)
    if not cases:
        raise DataError(
            f"{source.name}: no case can be used; data/index/problems.txt says why; run download again"
        )
    predefined = predefined_split(config, source, index)
    if predefined is not None:
        return predefined.subsets
    if config.split.fold:
        without_folds = config.split.model_copy(update={"folds": 0, "fold": 0})
        single_split = config.model_copy(update={"split": without_folds})
        groups = {case.group for case in select_cases(single_split, source, index)}
    else:
        groups = {*index.known.get(source.name, ())}
    if source.role == "train_only":
        return dict.fromkeys(sorted(groups), "train")
    return _split_by_seed(config, groups, _group_labels(cases))


def predefined_split(config: Config, source: SourceSettings, index: CaseIndex) -> PredefinedSplit | None:
    """Return the users' own split of a source; None where there is none, or it names no case of the source.

    Raises:
        SplitError: the split cannot be followed; see `data.split.predefined`.
    """
    if source.role == "train_only":
        return None
    if _may_have_folders(config, source):
        cases = index.of_source(source.name)
        members = match_folders(list_members(cases, index.roots[source.name]), required=False)
        if not {"train", "test"} <= {subset for subsets in members.values() for subset in subsets}:
            return None
    elif config.split.is_given:
        members = _match_members(config, index)
    else:
        return None
    named = {member: subsets for member, subsets in members.items() if member.source == source.name}
    return resolve_split(named, config.split, _group_labels(index.of_source(source.name)), source.name)


def _match_members(config: Config, index: CaseIndex) -> SubsetsByMember:
    """Return the subsets that the users' split names for each case of all sources."""
    names = [source.name for source in config.data.sources.values()]
    members = [member for name in names for member in list_members(index.of_source(name), index.roots[name])]
    listed = {(member.source, member.group) for member in members}
    # Phantom patients are known before they are generated.
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


def select_phantom_patients(config: Config, source: SourceSettings, names: Iterable[str]) -> frozenset[str]:
    """Return the phantom patients that take part, generated or not."""
    if source.role == "train_only":
        return _select_participants(config, source, dict.fromkeys(names, "train"))
    if config.split.file is not None:
        members = match_names(read_split_file(expand_user(config.split.file)), source.name, names)
        if predefined := resolve_split(members, config.split, None, source.name):
            return _select_participants(config, source, predefined.subsets, is_predefined=True)
    return _select_participants(config, source, _split_by_seed(config, names))


def select_cases(config: Config, source: SourceSettings, index: CaseIndex) -> list[CaseFiles]:
    """Return the cases of a source that take part at this scale."""
    cases = index.of_source(source.name)
    predefined, subsets = predefined_split(config, source, index), split_source(config, source, index)
    participants = _select_participants(
        config, source, subsets, _group_labels(cases), is_predefined=predefined is not None
    )
    left_out = {} if predefined is None else predefined.left_out
    return [case for case in cases if case.group in participants and case.key.case not in left_out]


def _select_participants(
    config: Config,
    source: SourceSettings,
    subsets: Mapping[str, Subset],
    labels: Mapping[str, str] | None = None,
    *,
    is_predefined: bool = False,
) -> frozenset[str]:
    """Return the groups of a source that take part at this scale; of a predefined split, all test groups."""
    scale = config.scale
    pictures = source.unit == "picture"
    minimum = scale.min_pictures if pictures else scale.min_patients
    number = scale.num_pictures if pictures else scale.num_patients
    always_used: tuple[Subset, ...] = ("test",) if is_predefined else ()
    return select_groups(subsets, scale.fraction, minimum, config.split.seed, labels, always_used, number)


def _split_by_seed(
    config: Config, groups: Iterable[str], labels: Mapping[str, str] | None = None
) -> dict[str, Subset]:
    if config.split.external:
        return dict.fromkeys(groups, "test")
    assign = assign_fold if config.split.fold else assign_subsets
    return assign(groups, config.split, config.split.seed, labels)


def _group_labels(cases: Iterable[CaseFiles]) -> dict[str, str] | None:
    """Return the class of each group of pictures, to stratify the subsets by; None for volumes."""
    labels = {case.group: str(case.label) for case in cases if case.label is not None}
    return labels or None


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
    return index.moved_to(
        {source.name: source_root(source, workspace) for source in config.data.sources.values()}
    )
