"""The bounded queue in front of the model: first come, first served, and waiting pictures as one batch.

Files are read and prepared in a few threads while one other thread runs the model, which is never entered by
two threads. A request that was given up is dropped before each of these steps.
"""

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from slicewise.core.machine import usable_cores
from slicewise.serving.api.problems import RequestError

T = TypeVar("T")
Infer = Callable[[Sequence[Any]], Sequence[Any]]
_MAX_PREPARED_VOLUMES: Final = 2
"""One that is predicted, and the next one: each takes a few hundred MiB."""
_MAX_READERS: Final = 8
_MAX_RETRY_SECONDS: Final = 120
_IDLE_SECONDS: Final = 5.0
"""After which the thread of the model ends; the next request starts another one."""
_MEMORY_OF_RATE: Final = 0.8


@dataclass(eq=False)
class Ticket:
    """A request in the queue."""

    identifier: str
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    running: bool = False
    fault: BaseException | None = None
    """Why it was taken out"""

    def require_wanted(self) -> None:
        """Raise the reason for which the request was taken out of the queue."""
        if self.fault is not None:
            raise self.fault


@dataclass(eq=False)
class _Job:
    ticket: Ticket | None
    work: Any
    future: "Future[Any]"
    is_batchable: bool


class ModelQueue:
    """Runs `infer` on prepared cases in one thread; `call` runs other work of the model there.

    Args:
        infer: returns a result for each of several cases.
        capacity: requests that may wait.
        batch_size: pictures of one batch.
        around: entered by the thread of the model for as long as it runs.
    """

    def __init__(self, infer: Infer, *, capacity: int, batch_size: int, around: Any) -> None:
        self._infer, self.capacity, self._batch_size, self._around = infer, capacity, batch_size, around
        self._tickets: list[Ticket] = []
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._readers = ThreadPoolExecutor(min(_MAX_READERS, usable_cores() + 1), "reader")
        self._volumes = threading.Semaphore(_MAX_PREPARED_VOLUMES)
        self._thread: threading.Thread | None = None
        self._seconds_per_request = 1.0
        self._last_request = time.monotonic()
        self._closed = False

    @property
    def running(self) -> int:
        """Requests that the model works on."""
        return sum(ticket.running for ticket in [*self._tickets])

    @property
    def waiting(self) -> int:
        """Requests before the model."""
        return sum(not ticket.running for ticket in [*self._tickets])

    @property
    def idle_seconds(self) -> float:
        """Seconds since the last request, or the start, ended; 0 during a request."""
        return 0.0 if self._tickets else time.monotonic() - self._last_request

    def find(self, identifier: str) -> tuple[int, Ticket] | None:
        """Return the requests before the one with this id, and its ticket; None if it is not here."""
        for place, ticket in enumerate([*self._tickets]):
            if ticket.identifier == identifier:
                return 0 if ticket.running else place, ticket
        return None

    @contextmanager
    def admit(self, identifier: str) -> Iterator[Ticket]:
        """Take a place in the queue for a request while the block runs.

        Raises:
            RequestError: 503 with Retry-After if the queue is full or closed.
        """
        self.require_room()
        ticket = Ticket(identifier)
        self._tickets.append(ticket)
        try:
            yield ticket
        finally:
            ticket.fault = ticket.fault or CancelledError()
            self._last_request = time.monotonic()
            self._tickets.remove(ticket)

    def require_room(self) -> None:
        """Raise what `admit` would raise; a request is refused before its files are received."""
        if self._closed:
            raise RequestError(503, _CLOSED, headers={"retry-after": "10"})
        waiting = len(self._tickets) - max(1, self.running)  # the first one is about to run
        if waiting >= self.capacity:
            seconds = min(_MAX_RETRY_SECONDS, math.ceil(waiting * self._seconds_per_request))
            raise RequestError(
                503,
                f"{waiting} requests are waiting, and no more are accepted (serving.max_waiting); send the "
                f"request again in {seconds} s",
                headers={"retry-after": str(seconds)},
            )

    async def predict(
        self, ticket: Ticket, prepare: Callable[[], T], *, is_batchable: Callable[[T], bool]
    ) -> tuple[T, Any]:
        """Return what `prepare` returned, and what the model returned for it."""

        def read() -> tuple[T, Future[Any]]:
            ticket.require_wanted()
            prepared = prepare()
            if not (batchable := is_batchable(prepared)):
                self._volumes.acquire()
            job = _Job(ticket, prepared, Future(), batchable)
            self._put(job)
            return prepared, job.future

        prepared, future = await asyncio.wrap_future(self._readers.submit(read))
        return prepared, await asyncio.wrap_future(future)

    def call(self, work: Callable[[], T]) -> T:
        """Return the result of `work`, which the thread of the model runs."""
        job = _Job(None, work, Future(), is_batchable=False)
        self._put(job)
        result: T = job.future.result()
        return result

    def close(self) -> None:
        """Refuse all requests that the model does not work on yet; those that it works on are finished."""
        self._closed = True
        for ticket in [*self._tickets]:
            if not ticket.running:
                ticket.fault = RequestError(503, _CLOSED, headers={"retry-after": "10"})
        with self._changed:
            self._changed.notify()

    def _put(self, job: _Job) -> None:
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="model", daemon=True)
                self._thread.start()
            self._jobs.append(job)
            self._changed.notify()

    def _run(self) -> None:
        with self._around:
            while True:
                with self._changed:
                    if not self._changed.wait_for(lambda: self._jobs, _IDLE_SECONDS):
                        self._thread = None
                        return
                    jobs = self._take()
                self._work(jobs)

    def _take(self) -> list[_Job]:
        """Return the next job, with the other waiting pictures if it is one."""
        jobs = [self._jobs.popleft()]
        if jobs[0].is_batchable:
            others = [job for job in self._jobs if job.is_batchable][: self._batch_size - 1]
            for job in others:
                self._jobs.remove(job)
            jobs += others
        return jobs

    def _work(self, jobs: list[_Job]) -> None:
        wanted = [job for job in jobs if _begin(job)]
        if wanted and wanted[0].ticket is None:
            _settle(wanted, lambda: [wanted[0].work()])
        elif wanted:
            started = time.perf_counter()
            _settle(wanted, lambda: self._infer([job.work for job in wanted]))
            seconds = (time.perf_counter() - started) / len(wanted)
            before = self._seconds_per_request
            self._seconds_per_request = _MEMORY_OF_RATE * before + (1 - _MEMORY_OF_RATE) * seconds
        for job in jobs:
            if job.ticket is not None and not job.is_batchable:
                self._volumes.release()


_CLOSED: Final = "the API is shutting down; send the request again when it has started"


def _settle(jobs: Sequence[_Job], work: Callable[[], Sequence[Any]]) -> None:
    """Give each job its result, or all of them the error."""
    try:
        results = work()
    except BaseException as error:
        for job in jobs:
            job.future.set_exception(error)
    else:
        for job, result in zip(jobs, results, strict=True):
            job.future.set_result(result)


def _begin(job: _Job) -> bool:
    """Return whether a job is still wanted, and mark it as running."""
    if not job.future.set_running_or_notify_cancel():
        return False
    if job.ticket is not None:
        if job.ticket.fault is not None:
            job.future.set_exception(job.ticket.fault)
            return False
        job.ticket.running = True
    return True
