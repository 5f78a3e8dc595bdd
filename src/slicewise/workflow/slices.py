"""The slices of a run: where they are stored, and those of one subset of the split."""

import shutil
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slicewise.config.schema import Config, Preprocessing
from slicewise.core.errors import DataError, SliceWiseError, UsageError, WorkspaceError
from slicewise.core.files import read_json
from slicewise.data.index import CaseIndex
from slicewise.data.split.assignment import Split, Subset
from slicewise.domain.keys import SliceKey
from slicewise.engine.clean import folder_bytes
from slicewise.engine.step import Context, Input
from slicewise.engine.workspace import HasHomes, Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from slicewise.data.cases import CaseFiles
    from slicewise.data.loading.dataset import SliceDataset
    from slicewise.data.store import SliceStore, StoredCase

STORE_DIR: Final = "data/slices"
MANIFEST_NAME: Final = "manifest.json"
SPLIT_NAME: Final = "split.json"
SPLIT_HOME: Final = "data/split"
INDEX_NAME: Final = "data/index/index.json"
PROCESSED_HOME: Final = "data/processed"
PRELOAD_MIB: Final = 2048
"""Training sets up to this size are held in memory; larger ones are read from the disk."""


def slice_store(workspace: Workspace) -> "SliceStore":
    """Return the store that all modes of a workspace share."""
    from slicewise.data.store import SliceStore

    return SliceStore(workspace.root / STORE_DIR)


def file_inputs(**files: Path | None) -> dict[str, Input]:
    """Return files outside the workspace as inputs of a step; None is left out."""
    return {name: Input(path.parent, partial(list, [path])) for name, path in files.items() if path}


def read_manifest(context: Context[Config]) -> list[dict[str, Any]]:
    """Return the entries that preprocessing listed.

    Raises:
        WorkspaceError: the list is damaged.
    """
    path = context.home("preprocess", "processed") / MANIFEST_NAME
    manifest = read_json(path)
    entries = manifest.get("entries") if isinstance(manifest, dict) else None
    texts = ("entry", "source", "group")
    if not isinstance(entries, list) or not all(
        isinstance(entry, dict) and all(isinstance(entry.get(name), str) for name in texts)
        for entry in entries
    ):
        raise WorkspaceError(f"{path} is damaged (no list of entries); move it aside and run again")
    return entries


def open_cases(context: Context[Config], subset: Subset) -> "list[StoredCase]":
    """Return the cases of one subset, memory-mapped, in the order of the manifest.

    Raises:
        DataError: a source of the run has no case in the subset.
    """
    store = slice_store(context.workspace)
    groups = Split.from_json(read_json(context.home("split", "split") / SPLIT_NAME)).subset(subset)
    entries = read_manifest(context)
    cases = [store.open(e["entry"]) for e in entries if (e["source"], e["group"]) in groups]
    expected = {s.name for s in context.config.data.sources.values() if s.role == "full" or subset == "train"}
    if missing := expected - {case.key.source for case in cases}:
        raise DataError(
            f"the {subset} subset has no case of {', '.join(sorted(missing))}; run again with "
            "--force download"
        )
    return cases


def stored_cases(
    workspace: Workspace, preprocessing: Preprocessing, subset: Subset = "test"
) -> "list[StoredCase]":
    """Return the cases of a subset of the last run in a workspace that suit this preprocessing, or none."""
    try:
        split = Split.from_json(read_json(workspace.root / SPLIT_HOME / SPLIT_NAME))
        entries = read_json(workspace.root / PROCESSED_HOME / MANIFEST_NAME)["entries"]
        groups, store = split.subset(subset), slice_store(workspace)
        cases = [store.open(e["entry"]) for e in entries if (e["source"], e["group"]) in groups]
    except (SliceWiseError, OSError, KeyError, TypeError, ValueError):
        return []
    size = preprocessing.image_size
    return [
        case
        for case in cases
        if case.channels == preprocessing.channels and case.images.shape[-2:] == (size, size)
    ]


def require_cases(path: Path, preprocessing: Preprocessing, subset: Subset) -> "list[StoredCase]":
    """Return `stored_cases` of the workspace around a checkpoint.

    Raises:
        UsageError: there are none.
    """
    workspace = workspace_of(path)
    cases = stored_cases(workspace, preprocessing, subset)
    if not cases:
        raise UsageError(
            f"{workspace.root} holds no {subset} patients prepared for {path}; a smaller model is made in "
            "the workspace of the run that trained it"
        )
    return cases


def indexed_cases(workspace: Workspace) -> "list[CaseFiles]":
    """Return the files of the cases of the last run in a workspace, as far as they are still there."""
    try:
        index = CaseIndex.read(workspace.root / INDEX_NAME, workspace.root)
    except (SliceWiseError, OSError):
        return []
    return [case for case in index.cases if all(path.is_file() for path in case.files)]


def workspace_of(path: Path) -> Workspace:
    """Return the workspace around a checkpoint, or around a folder of its exports."""
    above = path.absolute().parents
    return Workspace(above[min(1 if path.is_dir() else 2, len(above) - 1)])


def open_subset(context: Context[Config], subset: Subset) -> "SliceDataset":
    """Return one subset for training, by source."""
    cases = open_cases(context, subset)
    _require_classes(context.config, cases)
    return case_dataset(context.config, cases)


def case_dataset(config: Config, cases: "Iterable[StoredCase]") -> "SliceDataset":
    """Return cases for training, by source."""
    from slicewise.data.loading.dataset import SliceDataset

    listed = [*cases]
    by_source = {
        key: [case for case in listed if case.key.source == source.name]
        for key, source in config.data.sources.items()
    }
    return SliceDataset(by_source, PRELOAD_MIB)


def _require_classes(config: Config, cases: "Iterable[StoredCase]") -> None:
    """Refuse masks with a label that no class of a model of several classes has.

    Where `tasks.segmentation.labels` is set, others are background on purpose.
    """
    settings = config.tasks.segmentation
    if settings is None or settings.labels is not None or len(settings.classes) < 2:
        return
    for case in cases:
        if case.has_mask and (label := int(case.masks.max(initial=0))) > len(settings.classes):
            raise DataError(
                f"{case.key}: its mask has the label {label}, and tasks.segmentation.classes has "
                f"{len(settings.classes)} classes ({', '.join(settings.classes)}); name one for each label, "
                "or set tasks.segmentation.labels to the labels of each class"
            )


def slice_keys(case: "StoredCase") -> list[SliceKey]:
    """Return the key of every slice of a case."""
    key = case.key
    return [SliceKey(key.source, key.patient, key.case, int(index)) for index in case.indices]


class SliceLookup:
    """Returns a slice by its key: (image [4, N, N], presence, mask [N, N])."""

    def __init__(self, cases: "Sequence[StoredCase]") -> None:
        self._places = {key: (case, row) for case in cases for row, key in enumerate(slice_keys(case))}

    def __getitem__(self, key: SliceKey) -> "tuple[NDArray[np.float16], tuple[bool, ...], NDArray[np.uint8]]":
        case, row = self._places[key]
        return case.read([row])[0], tuple(case.presence), case.masks[row]


def remove_unused_slices(workspace: Workspace, steps: Iterable[HasHomes]) -> int:
    """Delete the slices that no output of `preprocess`, one of the steps, refers to; return the bytes freed.

    While that step is unfinished, its new slices are in no receipt yet, and all slices stay.
    """
    if any((workspace.state / "partial" / "preprocess").glob("*")):
        return 0
    outputs = [out for step in steps if step.name == "preprocess" for out in workspace.outputs(step)]
    used = {str(Path(name).parent) for output in outputs for name in output.receipt.shared}
    freed = 0
    for folder in sorted((workspace.root / STORE_DIR).glob("*/*")):
        if folder.is_dir() and workspace.relative(folder) not in used:
            freed += folder_bytes(folder)
            shutil.rmtree(folder)
    return freed
