"""Puts virtual patients and pictures on disk: only those that are missing, in parallel processes."""

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from slicewise.core.console import progress
from slicewise.core.errors import DataError
from slicewise.core.files import require_space
from slicewise.imaging.phantom.patient import patient_name, write_patient
from slicewise.imaging.phantom.pictures import write_pictures

__all__ = ["materialise_patients", "materialise_pictures", "patient_name"]

_BYTES_PER_PATIENT = 14 << 20
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def materialise_patients(folder: Path, numbers: Sequence[int], seed: int, num_workers: int) -> list[Path]:
    """Make sure that the virtual patients exist below `folder`, and return their folders in the order given.

    Patients that are there are kept as they are. At most one process per missing patient is started; with
    `num_workers` 0 or 1 the work is done in this process.

    Raises:
        DataError: a worker was killed (mostly for lack of memory), or a patient could not be written.
        WorkspaceError: the disk has no room for the missing patients.
    """
    missing = [number for number in dict.fromkeys(numbers) if not (folder / patient_name(number)).is_dir()]
    if missing:
        require_space(folder, len(missing) * _BYTES_PER_PATIENT, f"generating {len(missing)} virtual patients")
        workers = min(num_workers, len(missing))
        done = _in_this_process(folder, missing, seed) if workers <= 1 else _in_processes(folder, missing, seed, workers)
        for _ in progress(done, total=len(missing), desc="Generating patients", unit="patient"):
            pass
    return [folder / patient_name(number) for number in numbers]


def materialise_pictures(folder: Path, count: int, seed: int) -> Path:
    """Make sure that the set of `count` yes/no pictures exists in `folder`, and return it.

    Raises:
        DataError: the folder holds other pictures.
    """
    return write_pictures(folder, count, seed)


def _in_this_process(folder: Path, numbers: Sequence[int], seed: int) -> Iterator[Path]:
    for number in numbers:
        yield write_patient(folder, number, seed)


def _in_processes(folder: Path, numbers: Sequence[int], seed: int, num_workers: int) -> Iterator[Path]:
    """Yield each patient's folder as it is finished, in any order."""
    context = multiprocessing.get_context("spawn")
    with _single_threaded_children(), ProcessPoolExecutor(num_workers, context, _start_worker) as pool:
        futures = {pool.submit(write_patient, folder, number, seed): number for number in numbers}
        try:
            for future in as_completed(futures):
                yield _result(future, futures[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _result(future: "Future[Path]", number: int) -> Path:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise DataError(
            f"a process that generates virtual patients was killed, probably for lack of memory, while "
            f"{patient_name(number)} was waited for; finished patients are kept: run again with fewer "
            "runtime.num_workers"
        ) from error
    except OSError as error:
        raise DataError(f"{patient_name(number)} could not be written: {error}; mend that and run again") from error


def _start_worker() -> None:
    """Keep a worker to one thread, and let the parent alone answer Ctrl-C."""
    import signal

    import cv2

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _single_threaded_children() -> Iterator[None]:
    """Numerical libraries read these variables when a child starts; ours are restored afterwards."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
