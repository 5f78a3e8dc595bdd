"""A function mapped over cases, in worker processes: bounded memory, one thread each, clear errors."""

import io
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from itertools import islice
from multiprocessing import connection
from typing import Any, Final, TypeVar

from slicewise.core.disk import MIB
from slicewise.core.errors import DataError
from slicewise.core.machine import available_memory, keep_freed_memory, usable_cores

Job = TypeVar("Job")
Result = TypeVar("Result")

_QUEUED_PER_WORKER: Final = 2
"""Enough that no worker waits; few, so that results and cases do not fill the memory."""
_THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def num_processes(requested: int, memory_mib: int, num_jobs: int) -> int:
    """Return the number of workers: `requested` (0: one per core), limited by memory and by the jobs."""
    affordable = available_memory() // (memory_mib * MIB)
    return max(1, min(requested or usable_cores(), affordable, num_jobs))


def map_cases(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    name: Callable[[Job], str],
    num_workers: int,
    memory_mib: int,
    jobs_per_worker: int = 1,
    mapper: Callable[..., Iterator[tuple[int, Any]]] | None = None,
) -> Iterator[tuple[int, Result]]:
    """Yield (index of the job, its result) as jobs finish. Every loop over many cases is this one.

    Args:
        function: importable by name: it runs in other processes.
        jobs: picklable; a case, or several small ones.
        name: names a job in an error.
        num_workers: processes; 0: one per core. Fewer are used where memory or jobs are few.
        memory_mib: largest memory of a worker.
        jobs_per_worker: with fewer jobs, another worker takes longer to start than it saves.
        mapper: what runs the jobs, in place of `map_in_processes`.

    Raises:
        DataError: the system killed a worker.
    """
    workers = num_processes(num_workers, memory_mib, len(jobs) // jobs_per_worker)
    yield from (mapper or map_in_processes)(function, jobs, workers, name)


def map_in_processes(
    function: Callable[[Job], Result], jobs: Sequence[Job], num_workers: int, name: Callable[[Job], str]
) -> Iterator[tuple[int, Result]]:
    """Do what `map_cases` does with so many workers; in this process where one is enough.

    What a job prints in a worker, warnings above all, is printed by this process: a worker does not know
    where the progress bars of the terminal are.
    """
    if num_workers == 1 or len(jobs) < 2:
        for position, job in enumerate(jobs):
            yield position, function(job)
        return
    context = multiprocessing.get_context("spawn")
    with _one_thread_each(), ProcessPoolExecutor(num_workers, context, _start_worker) as pool:
        try:
            captured = partial(_captured, function)
            for position, (result, printed) in _bounded(pool, captured, jobs, num_workers, name):
                if printed:
                    sys.stderr.write(printed)
                yield position, result
        except BaseException as error:
            if not isinstance(error, Exception):  # interrupted: do not wait for jobs that may take long
                for process in list(pool._processes.values()):
                    process.kill()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _captured(function: Callable[[Job], Result], job: Job) -> tuple[Result, str]:
    """Return the result of a job and what it printed."""
    with io.StringIO() as printed, redirect_stdout(printed), redirect_stderr(printed):
        return function(job), printed.getvalue()


def _bounded(
    pool: ProcessPoolExecutor,
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    num_workers: int,
    name: Callable[[Job], str],
) -> Iterator[tuple[int, Result]]:
    waiting = iter(range(len(jobs)))
    running: dict[Future[Result], int] = {}
    try:
        while True:
            for position in islice(waiting, num_workers * _QUEUED_PER_WORKER - len(running)):
                # This may start a worker, which inherits the mask. Ctrl-C goes to the whole process group;
                # a worker that is importing its modules would print a traceback.
                mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
                try:
                    running[pool.submit(function, jobs[position])] = position
                finally:
                    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                result = future.result()
                yield running.pop(future), result
    except BrokenProcessPool as error:
        names = ", ".join(name(jobs[position]) for position in sorted(running.values()))
        raise DataError(
            f"the system stopped a worker, probably for lack of memory, during or shortly before: {names}; "
            f"{available_memory() / MIB:,.0f} MiB are free now; run again with runtime.num_workers="
            f"{max(1, num_workers // 2)} (it was {num_workers}), what was finished is kept"
        ) from error


def _start_worker() -> None:
    """Use one thread, keep freed memory for the next case, leave Ctrl-C to the parent, and end with it."""
    import cv2  # here: this package loads no numpy

    cv2.setNumThreads(1)
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()


def end_with_parent() -> None:
    """End this worker when its parent is killed; it would otherwise wait for ever."""
    threading.Thread(target=_await_parent, name="end-with-parent", daemon=True).start()


def _await_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Set one thread for child processes: numerical libraries read these variables as they start."""
    before = {name: os.environ.get(name) for name in (*_THREAD_VARIABLES, "PYTHONWARNINGS")}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))
    # When this process is killed, multiprocessing's resource tracker cleans up and warns on the terminal.
    warnings = filter(None, (before["PYTHONWARNINGS"], "ignore:resource_tracker:UserWarning"))
    os.environ["PYTHONWARNINGS"] = ",".join(warnings)
    try:
        yield
    finally:
        for name in before:
            os.environ.pop(name, None)
        os.environ.update({name: value for name, value in before.items() if value is not None})
