"""The jobs of a sealed plan as tasks of Ray, the same as of Slurm; and trials of a search."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from slicewise.cluster import job
from slicewise.cluster.drive import Place, drive
from slicewise.cluster.lease import CancelledError, is_done
from slicewise.cluster.plan import Group, PlanFolder, source_folder
from slicewise.cluster.ray_workers import Share, TaskPool, connected, fit
from slicewise.cluster.source import seal_source
from slicewise.config.schema import Config
from slicewise.core.console import progress_bar, say
from slicewise.core.files import write_json
from slicewise.engine.workspace import Workspace

if TYPE_CHECKING:
    from ray import ObjectRef

_WAIT_SECONDS: Final = 1.0


def run_jobs(folder: PlanFolder, config: Config) -> list[Place]:
    """Run what is missing of a plan on the Ray that is connected; return the jobs that failed.

    Raises:
        CancelledError: the plan was cancelled meanwhile.
        RayError: Ray has not what a job needs.
    """
    jobs = [*folder.plan.jobs]
    done = sum(is_done(folder, each) for each in jobs)
    with progress_bar(desc="jobs", total=len(jobs), unit="job", initial=done) as bar:

        def tell(place: Place, is_finished: bool) -> None:
            if not is_finished:
                say(f"  {place.job.name} failed", "bad")
                return
            bar.update()
            if len(place.group.jobs) == 1:
                say(f"  {place.job.name} is done", "good")

        workers = RayWorkers(folder, config)
        return drive(folder.plan.groups, lambda each: is_done(folder, each), workers, tell)


class RayWorkers:
    """Runs jobs as tasks, and those that were stopped again, `cluster.restarts` times."""

    def __init__(self, folder: PlanFolder, config: Config) -> None:
        self._folder, self._config = folder, config
        self._pool = TaskPool(source_folder(folder.workspace, folder.plan.source), config.cluster)
        self._tasks: dict[ObjectRef, Place] = {}
        self._stops: dict[Place, int] = {}
        self._shares: dict[str, Share] = {}

    def start(self, place: Place) -> None:
        group, folder = place.group, self._folder
        words = (str(folder.workspace.root), str(folder.number), folder.digest, group.name, str(place.index))
        log = folder.logs / f"{group.name}-{place.index}.log"
        self._tasks[self._pool.start(job.main, words, share=self._share(group), log=log)] = place

    def wait(self) -> Sequence[Place]:
        import ray

        ended, _ = ray.wait([*self._tasks], timeout=_WAIT_SECONDS)
        if not ended and self._folder.has_ended and not all(map(self._is_done, self._tasks.values())):
            raise CancelledError(
                f"plan {self._folder.number} was cancelled; finished jobs and saved states are kept, and the "
                "same command continues from there"
            )
        return [place for task in ended if (place := self._end(task)) is not None]

    def stop(self) -> None:
        self._pool.stop()

    def _is_done(self, place: Place) -> bool:
        return is_done(self._folder, place.job)

    def _end(self, task: "ObjectRef") -> Place | None:
        """Return the job of a task that has ended, or None where it was stopped and goes on."""
        import ray

        place = self._tasks.pop(task)
        self._pool.forget(task)
        try:
            code = ray.get(task)
        except ray.exceptions.RayError as error:
            path = self._folder.failure(place.job)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"type": type(error).__name__, "message": str(error).strip().splitlines()[-1]})
            return place
        stops = self._stops[place] = self._stops.get(place, 0) + (code == job.STOPPED)
        if code != job.STOPPED or stops > self._config.cluster.restarts:
            return place
        self.start(place)
        return None

    def _share(self, group: Group) -> Share:
        cluster, section = self._config.cluster, group.resources
        if group.name not in self._shares:
            number = self._config.runtime.num_processes if section == "train" else 1
            self._shares[group.name] = fit(getattr(cluster, section), section, number)
        return self._shares[group.name]


@contextmanager
def trial_pool(config: Config, workspace: Workspace) -> Iterator[tuple[TaskPool, Share]]:
    """Yield tasks of this program, and what a training asks for. They are stopped if the block fails."""
    copies = source_folder(workspace, "")
    pool = TaskPool(copies / seal_source(copies), config.cluster)
    with connected(config.cluster, workspace.root):
        share = fit(config.cluster.train, "train", config.runtime.num_processes)
        try:
            yield pool, share
        except BaseException:
            pool.stop()
            raise
