"""Writes virtual patients and pictures to disk: only those that are missing, in parallel processes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from slicewise.core.console import progress
from slicewise.core.disk import MIB, require_space
from slicewise.core.parallel import map_cases
from slicewise.data.phantom.patient import patient_name, write_patient
from slicewise.data.phantom.pictures import missing_pictures, write_picture

BYTES_PER_PATIENT: Final = 10 * MIB
_WORKER_MIB: Final = 700
"""Largest memory of one worker, as measured."""
_PICTURES_PER_WORKER: Final = 20
"""Starting a worker takes about as long as drawing these."""


def materialise_patients(folder: Path, numbers: Sequence[int], seed: int, num_workers: int) -> list[Path]:
    """Write those of the virtual patients that are missing in `folder`; return all their folders in order.

    With `num_workers` 1 the work is done in this process; 0 stands for one process per core.

    Raises:
        DataError: the system killed a worker, mostly for lack of memory.
        WorkspaceError: the disk has no room for the missing patients.
    """
    missing = missing_patients(folder, numbers)
    if missing:
        require_space(folder, len(missing) * BYTES_PER_PATIENT, f"generating {len(missing)} patients")
        write = partial(write_patient, folder, seed=seed)
        done = map_cases(write, missing, name=patient_name, num_workers=num_workers, memory_mib=_WORKER_MIB)
        for _ in progress(done, total=len(missing), desc="Generating patients", unit="patient"):
            pass
    return [folder / patient_name(number) for number in numbers]


def missing_patients(folder: Path, numbers: Sequence[int]) -> list[int]:
    """Return the numbers of patients that are not in `folder` yet."""
    return [number for number in dict.fromkeys(numbers) if not (folder / patient_name(number)).is_dir()]


def materialise_pictures(folder: Path, count: int, seed: int, num_workers: int) -> Path:
    """Write the missing ones of a set of `count` yes/no pictures to `folder`, and return it.

    `num_workers` as in `materialise_patients`; few pictures are drawn in this process.

    Raises:
        DataError: the folder holds other pictures, or the system killed a worker.
    """
    missing = missing_pictures(folder, count, seed)
    done = map_cases(
        partial(write_picture, folder, seed),
        missing,
        name=lambda picture: picture.file,
        num_workers=num_workers,
        memory_mib=_WORKER_MIB,
        jobs_per_worker=_PICTURES_PER_WORKER,
    )
    for _ in progress(done, total=len(missing), desc="Drawing pictures", unit="picture"):
        pass
    return folder
