"""Puts virtual patients and pictures on disk: only those that are missing, in parallel processes."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from slicewise.core.console import progress
from slicewise.core.disk import MIB, require_space
from slicewise.core.parallel import num_processes, run_jobs
from slicewise.data.phantom.patient import patient_name, write_patient
from slicewise.data.phantom.pictures import missing_pictures, write_picture

__all__ = [
    "BYTES_PER_PATIENT",
    "materialise_patients",
    "materialise_pictures",
    "missing_patients",
    "patient_name",
]

BYTES_PER_PATIENT: Final = 10 * MIB
_WORKER_MIB: Final = 700
"""The most that one worker was seen to take."""
_PICTURES_PER_WORKER: Final = 20
"""A worker takes about as long to start as these take to draw."""


def materialise_patients(folder: Path, numbers: Sequence[int], seed: int, num_workers: int) -> list[Path]:
    """Make sure that these virtual patients exist below `folder`; return their folders in the order given.

    Patients that are there are kept. With `num_workers` 1 the work is done in this process; 0 asks
    for one process per core.

    Raises:
        DataError: the system killed a worker, mostly for lack of memory.
        WorkspaceError: the disk has no room for the missing patients.
    """
    missing = missing_patients(folder, numbers)
    if missing:
        require_space(folder, len(missing) * BYTES_PER_PATIENT, f"generating {len(missing)} patients")
        write = partial(_write, folder, seed)
        workers = num_processes(num_workers, _WORKER_MIB, len(missing))
        done = run_jobs(write, missing, workers, patient_name)
        for _ in progress(done, total=len(missing), desc="Generating patients", unit="patient"):
            pass
    return [folder / patient_name(number) for number in numbers]


def missing_patients(folder: Path, numbers: Sequence[int]) -> list[int]:
    """Return those that are not below `folder` yet."""
    return [number for number in dict.fromkeys(numbers) if not (folder / patient_name(number)).is_dir()]


def materialise_pictures(folder: Path, count: int, seed: int, num_workers: int) -> Path:
    """Make sure that the set of `count` yes/no pictures exists in `folder`, and return it.

    `num_workers` as in `materialise_patients`; few pictures are drawn in this process.

    Raises:
        DataError: the folder holds other pictures, or the system killed a worker.
    """
    missing = missing_pictures(folder, count, seed)
    workers = num_processes(num_workers, _WORKER_MIB, len(missing) // _PICTURES_PER_WORKER)
    done = run_jobs(partial(write_picture, folder, seed), missing, workers, lambda name: name.file)
    for _ in progress(done, total=len(missing), desc="Drawing pictures", unit="picture"):
        pass
    return folder


def _write(folder: Path, seed: int, number: int) -> Path:
    return write_patient(folder, number, seed)
