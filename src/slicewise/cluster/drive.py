"""Starts the jobs of a plan, each after those that it needs, on workers that stay."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from slicewise.cluster.plan import Group, Job


@dataclass(frozen=True, eq=False)
class Place:
    """A job of a group, by its index."""

    group: Group
    index: int

    @property
    def job(self) -> Job:
        return self.group.jobs[self.index]


class Workers(Protocol):
    """What runs jobs, as many at a time as it can, in the order in which they were started."""

    def start(self, place: Place) -> None: ...

    def wait(self) -> Sequence[Place]:
        """Return jobs that have ended, well or not, since the last call; none after a while."""
        ...

    def stop(self) -> None:
        """Let what runs save its work, and end it."""
        ...


def drive(
    groups: Sequence[Group],
    is_done: Callable[[Job], bool],
    workers: Workers,
    tell: Callable[[Place, bool], None],
) -> list[Place]:
    """Run all jobs that are not done; return those that failed. What needs a failed one is not started.

    `is_done` says whether the output of a job is in place, which decides, and not how the job ended. `tell`
    is called with each job that has ended, and with whether it is done.
    """
    left = {group.name: {i for i, job in enumerate(group.jobs) if not is_done(job)} for group in groups}
    waiting = [Place(group, index) for group in groups for index in sorted(left[group.name])]
    running, failed = 0, list[Place]()
    try:
        while True:
            ready = [place for place in waiting if _is_ready(place, left)]
            waiting = [place for place in waiting if not _is_ready(place, left)]
            for place in ready:
                workers.start(place)
            running += len(ready)
            if not running:
                return failed
            ended = workers.wait()
            running -= len(ended)
            for place in ended:
                done = is_done(place.job)
                left[place.group.name] -= {place.index} if done else set()
                failed += [] if done else [place]
                tell(place, done)
    except BaseException:
        workers.stop()
        raise


def _is_ready(place: Place, left: dict[str, set[int]]) -> bool:
    """Whether everything that a job needs is done."""
    return not any(
        place.index in left[need.group] if need.each else left[need.group] for need in place.group.after
    )
