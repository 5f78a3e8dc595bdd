"""Cases become sealed slices, in parallel, and only those that are not sealed yet."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np

from slicewise.config.schema import Preprocessing
from slicewise.core.console import progress, progress_bar
from slicewise.core.disk import require_space
from slicewise.core.errors import DataError, WorkspaceError
from slicewise.core.hashing import HashCache, digest
from slicewise.core.parallel import num_processes, run_jobs
from slicewise.data.case_reader import read_case
from slicewise.data.cases import CaseFiles
from slicewise.data.problems import Problem
from slicewise.data.store import SliceStore, entry_id
from slicewise.domain.keys import CaseKey
from slicewise.imaging.slicing import SlicedCase, extract_slices

_WORK: Final = {"nifti": 32, "lgg": 8, "picture": 1}
"""Relative time a case takes."""
_WORK_PER_JOB: Final = 32
"""A worker is handed this much at once: 253 pictures are 8 round trips, not 253."""
_MAX_TUMOUR_SHARE: Final = 0.6
"""Of the brain. The largest tumours of BraTS take less than a third of it."""
_LIKE_BRAIN: Final = (
    f"the mask covers more than {_MAX_TUMOUR_SHARE:.0%} of the brain; look whether it is that of the tumour "
    "(data.volumes.mask names another file)"
)
_SLICES_OF_A_VOLUME: Final = 160
_FLOAT16_BYTES: Final = 2


@dataclass(frozen=True)
class EntryRef:
    """A sealed entry of the slice store."""

    key: CaseKey
    group: str
    entry: str
    num_slices: int
    reused: bool
    remarks: tuple[str, ...] = ()
    """What was odd about the files when the slices were made."""


@dataclass(frozen=True)
class PreprocessReport:
    """What came of the cases, in their order: an unusable one is a problem, one with a remark a warning."""

    entries: tuple[EntryRef, ...]
    problems: tuple[Problem, ...]

    @property
    def num_left_out(self) -> int:
        return sum(problem.severity == "error" for problem in self.problems)

    @property
    def num_new(self) -> int:
        return len(self.entries) - self.num_reused

    @property
    def num_reused(self) -> int:
        return sum(entry.reused for entry in self.entries)


Outcome: TypeAlias = EntryRef | Problem
Job: TypeAlias = tuple[tuple[CaseFiles, str], ...]
"""(case, entry) of the cases a worker takes at once."""


def preprocess_cases(
    cases: Sequence[CaseFiles],
    store: SliceStore,
    settings: Preprocessing,
    *,
    num_workers: int,
    max_worker_memory_mib: int,
    hash_cache: HashCache,
) -> PreprocessReport:
    """Seal the slices of every case that the store does not hold yet.

    Args:
        cases: what to slice.
        store: where the slices go.
        settings: decide the slices.
        num_workers: processes; 0 for one per core. Fewer start where memory is short.
        max_worker_memory_mib: what one process may need.
        hash_cache: remembers the contents of the files.

    Returns:
        Entries and problems in the order of `cases`, whatever the number of workers; an unusable case is a
        problem and left out.

    Raises:
        DataError: the system killed a worker.
        WorkspaceError: the disk is too small.
    """
    store.sweep()
    ids = [
        entry_id(case.key, case_digest(case, hash_cache), settings)
        for case in progress(cases, desc="Comparing files", unit="case")
    ]
    outcomes: dict[str, Outcome] = {}
    missing: list[tuple[CaseFiles, str]] = []
    for case, entry in zip(cases, ids, strict=True):
        if _is_intact(store, entry, hash_cache):
            outcomes[entry] = _reference(store, case, entry, reused=True)
        else:
            missing.append((case, entry))
    outcomes.update(_compute(missing, store, settings, num_workers, max_worker_memory_mib))
    ordered = [outcomes[entry] for entry in ids]
    return PreprocessReport(
        tuple(outcome for outcome in ordered if isinstance(outcome, EntryRef)),
        tuple(
            problem
            for case, outcome in zip(cases, ordered, strict=True)
            for problem in ([outcome] if isinstance(outcome, Problem) else _remarks(case, outcome))
        ),
    )


def _remarks(case: CaseFiles, entry: EntryRef) -> list[Problem]:
    return [Problem(case.folder, remark, "warning") for remark in entry.remarks]


def case_digest(case: CaseFiles, hash_cache: HashCache) -> str:
    """Return a digest of the case's file contents and of what is known about them, not of where they lie."""
    return digest(
        {
            "kind": case.kind,
            "modalities": list(case.modalities),
            "label": case.label,
            "group": case.group,
            "images": [hash_cache.hash(path) for path in case.images],
            "masks": [hash_cache.hash(path) for path in case.masks],
            **({} if case.labels is None else {"labels": [list(pair) for pair in case.labels]}),
        }
    )


def estimate_bytes(case: CaseFiles, settings: Preprocessing) -> int:
    """Return about how many bytes a case's slices take: float16 images and a uint8 mask."""
    num_slices = _SLICES_OF_A_VOLUME if case.kind == "nifti" else len(case.images)
    per_pixel = len(case.modalities) * _FLOAT16_BYTES + 1
    return int(num_slices * per_pixel * settings.image_size**2)


def _compute(
    missing: Sequence[tuple[CaseFiles, str]],
    store: SliceStore,
    settings: Preprocessing,
    num_workers: int,
    max_worker_memory_mib: int,
) -> Iterator[tuple[str, Outcome]]:
    if not missing:
        return
    needed = sum(estimate_bytes(case, settings) for case, _ in missing)
    require_space(store.root, needed, f"preprocessing {len(missing)} cases")
    jobs = batch_jobs(missing)
    processes = num_processes(num_workers, max_worker_memory_mib, len(jobs))
    work = partial(_seal_cases, store.root, settings)
    with progress_bar(desc="Preprocessing", total=len(missing), unit="case") as bar:
        for position, outcomes in run_jobs(work, jobs, processes, _names):
            yield from zip((entry for _, entry in jobs[position]), outcomes, strict=True)
            bar.update(len(outcomes))


def batch_jobs(missing: Sequence[tuple[CaseFiles, str]]) -> list[Job]:
    """Put small cases together so that each job is worth its round trip; the order stays."""
    jobs: list[list[tuple[CaseFiles, str]]] = []
    capacity = 0
    for case, entry in missing:
        work = _WORK[case.kind]
        if work > capacity:
            jobs.append([])
            capacity = _WORK_PER_JOB
        jobs[-1].append((case, entry))
        capacity -= work
    return [tuple(job) for job in jobs]


def _seal_cases(root: Path, settings: Preprocessing, job: Job) -> list[Outcome]:
    """Run in a worker."""
    store = SliceStore(root)
    return [_seal_case(store, settings, case, entry) for case, entry in job]


def _seal_case(store: SliceStore, settings: Preprocessing, case: CaseFiles, entry: str) -> Outcome:
    try:
        volume = read_case(case)
        sliced = extract_slices(volume, settings)
    except DataError as error:
        return Problem(case.folder, str(error))
    except MemoryError as error:
        raise DataError(
            f"{case.key} does not fit into memory; lower runtime.num_workers and run again"
        ) from error
    # What is odd about a picture was listed when it was found.
    remarks = () if case.kind == "picture" else (*volume.remarks, *_implausible(sliced))
    store.write(entry, sliced, case.group, remarks)
    return EntryRef(case.key, case.group, entry, len(sliced.indices), False, remarks)


def _implausible(sliced: SlicedCase) -> list[str]:
    """Say where a mask is that of a brain rather than of a tumour."""
    brain = np.count_nonzero(sliced.images.any(axis=1))
    return [_LIKE_BRAIN] if np.count_nonzero(sliced.masks) > _MAX_TUMOUR_SHARE * brain else []


def _is_intact(store: SliceStore, entry: str, hash_cache: HashCache) -> bool:
    """Whether an entry is there and as it was sealed; a damaged one is removed, to be made again.

    Its files are hashed anyway when the step's output is sealed, so this costs nothing more.
    """
    try:
        store.verify(entry, hash_cache.hash)
    except (WorkspaceError, OSError):
        store.discard(store.folder(entry))
        return False
    return True


def _reference(store: SliceStore, case: CaseFiles, entry: str, *, reused: bool) -> EntryRef:
    stored = store.open(entry)
    return EntryRef(case.key, case.group, entry, len(stored.indices), reused, stored.remarks)


def _names(job: Job) -> str:
    names = [str(case.key) for case, _ in job]
    return ", ".join(names) if len(names) < 3 else f"{names[0]} to {names[-1]}"
