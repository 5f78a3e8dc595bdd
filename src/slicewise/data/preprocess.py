"""Preprocessing: seals the slices of the cases that the store does not hold yet, in parallel."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from slicewise.config.schema import Preprocessing
from slicewise.core.console import progress, progress_bar
from slicewise.core.disk import require_space
from slicewise.core.errors import DataError, WorkspaceError
from slicewise.core.hashing import HashCache, digest
from slicewise.core.parallel import map_cases
from slicewise.data.cases import CaseFiles
from slicewise.data.problems import Problem
from slicewise.data.store import SliceStore, StoredCase, entry_id
from slicewise.domain.keys import CaseKey
from slicewise.imaging.slicing import extract_slices

_SLICES_PER_WORK: Final = 5
"""A case takes about as long as its slices, but a picture not less than this many."""
_WORK_PER_JOB: Final = 32
"""Work that a worker gets at once: 253 pictures are 8 round trips, not 253."""
_MAX_TUMOUR_SHARE: Final = 0.6
"""Of the brain. The largest tumours of BraTS take less than a third of it."""
_LIKE_BRAIN: Final = (
    f"the mask covers more than {_MAX_TUMOUR_SHARE:.0%} of the brain; check whether it is that of the tumour "
    "(the key `mask` of the source names another file)"
)
_FLOAT16_BYTES: Final = 2


@dataclass(frozen=True)
class PreprocessReport:
    """Entries and problems in the order of the cases: an unusable case is an error, a remark a warning."""

    entries: tuple[StoredCase, ...]
    problems: tuple[Problem, ...]
    new: tuple[CaseKey, ...]
    """The cases that were sliced in this run."""

    @property
    def num_reused(self) -> int:
        return len(self.entries) - len(self.new)


Job = list[tuple[CaseFiles, str]]
"""(case, entry) of the cases that a worker takes at once."""


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

    `num_workers` is the number of processes, 0 for one per core; fewer start where memory is short.

    Raises:
        DataError: the system killed a worker.
        WorkspaceError: the disk is too small.
    """
    store.sweep()
    ids = [
        entry_id(case.key, case_digest(case, hash_cache), settings)
        for case in progress(cases, desc="Comparing files", unit="case")
    ]
    missing = [
        (case, entry)
        for case, entry in zip(cases, ids, strict=True)
        if not _is_intact(store, entry, hash_cache)
    ]
    failed = dict(_compute(missing, store, settings, num_workers, max_worker_memory_mib))
    entries: list[StoredCase] = []
    problems: list[Problem] = []
    for case, entry in zip(cases, ids, strict=True):
        if entry in failed:
            problems.append(Problem(case.folder, failed[entry]))
        else:
            entries.append(store.open(entry))
            problems += [Problem(case.folder, remark, "warning") for remark in entries[-1].remarks]
    new = tuple(case.key for case, entry in missing if entry not in failed)
    return PreprocessReport(tuple(entries), tuple(problems), new)


def case_digest(case: CaseFiles, hash_cache: HashCache) -> str:
    """Return a digest of the contents of a case's files and of its metadata, not of their location."""
    return digest(
        {
            "kind": case.kind,
            "modalities": list(case.modalities),
            "label": case.label,
            "group": case.group,
            "images": list(map(hash_cache.hash, case.images)),
            "masks": list(map(hash_cache.hash, case.masks)),
            **({} if case.labels is None else {"labels": [list(pair) for pair in case.labels]}),
        }
    )


def estimate_bytes(case: CaseFiles, settings: Preprocessing) -> int:
    """Return the approximate number of bytes of a case's slices: float16 images and a uint8 mask."""
    per_pixel = len(case.modalities) * _FLOAT16_BYTES + 1
    return int(case.source.num_slices(case) * per_pixel * settings.image_size**2)


def _compute(
    missing: Job,
    store: SliceStore,
    settings: Preprocessing,
    num_workers: int,
    max_worker_memory_mib: int,
) -> Iterator[tuple[str, str]]:
    """Seal the entries of cases; yield those of which the case cannot be used, and why."""
    if not missing:
        return
    needed = sum(estimate_bytes(case, settings) for case, _ in missing)
    require_space(store.root, needed, f"preprocessing {len(missing)} cases")
    jobs = batch_jobs(missing)
    seal = partial(_seal_cases, store.root, settings)
    with progress_bar(desc="Preprocessing", total=len(missing), unit="case") as bar:
        done = map_cases(
            seal, jobs, name=_describe_job, num_workers=num_workers, memory_mib=max_worker_memory_mib
        )
        for position, failed in done:
            yield from failed
            bar.update(len(jobs[position]))


def batch_jobs(missing: Job) -> list[Job]:
    """Return the cases in jobs of about equal work, in their order."""
    jobs: list[Job] = []
    capacity = 0
    for case, entry in missing:
        work = max(1, case.source.num_slices(case) // _SLICES_PER_WORK)
        if work > capacity:
            jobs.append([])
            capacity = _WORK_PER_JOB
        jobs[-1].append((case, entry))
        capacity -= work
    return jobs


def _seal_cases(root: Path, settings: Preprocessing, job: Job) -> list[tuple[str, str]]:
    """Read the cases of a job and write their entries; runs in a worker process."""
    store = SliceStore(root)
    failed: list[tuple[str, str]] = []
    for case, entry in job:
        try:
            volume = case.read()
            sliced = extract_slices(volume, settings)
        except DataError as error:
            failed.append((entry, str(error)))
            continue
        except MemoryError as error:
            raise DataError(
                f"{case.key} does not fit into memory; lower runtime.num_workers and run again"
            ) from error
        remarks: tuple[str, ...] = ()
        if case.unit != "picture":  # remarks on pictures are listed when the data is indexed
            brain = np.count_nonzero(sliced.images.any(axis=1))
            too_large = np.count_nonzero(sliced.masks) > _MAX_TUMOUR_SHARE * brain
            remarks = (*volume.remarks, *([_LIKE_BRAIN] if too_large else []))
        store.write(entry, sliced, case.group, remarks)
    return failed


def _is_intact(store: SliceStore, entry: str, hash_cache: HashCache) -> bool:
    """Whether an entry is there and as it was sealed; a damaged one is removed, to be regenerated.

    The step hashes these files anyway when its output is sealed, so the check costs nothing more.
    """
    try:
        store.verify(entry, hash_cache.hash)
    except (WorkspaceError, OSError):
        store.discard(store.folder(entry))
        return False
    return True


def _describe_job(job: Job) -> str:
    names = [str(case.key) for case, _ in job]
    return ", ".join(names) if len(names) < 3 else f"{names[0]} to {names[-1]}"
