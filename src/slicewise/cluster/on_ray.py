"""The jobs of a sealed plan as tasks of Ray: the same jobs as of Slurm, in workers that stay."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slicewise.cluster import job
from slicewise.cluster.drive import Place, drive
from slicewise.cluster.lease import CancelledError, is_done
from slicewise.cluster.plan import Group, PlanFolder, source_folder
from slicewise.cluster.ray_workers import Share, fit, output_in, remote, stop_tasks
from slicewise.config.schema import Config
from slicewise.core.console import progress_bar, say
from slicewise.core.files import write_json

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.util.placement_group import PlacementGroup

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
    """Runs jobs as tasks; Ray itself repeats one whose worker is killed, `cluster.restarts` times."""

    def __init__(self, folder: PlanFolder, config: Config) -> None:
        self._folder, self._config = folder, config
        self._source = source_folder(folder.workspace, folder.plan.source)
        self._tasks: dict[ObjectRef, Place] = {}
        self._gangs: dict[ObjectRef, PlacementGroup] = {}
        self._stops: dict[Place, int] = {}
        self._shares: dict[str, Share] = {}

    def start(self, place: Place) -> None:
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        group, folder, share = place.group, self._folder, self._share(place.group)
        options: dict[str, Any] = {"max_retries": self._config.cluster.restarts, "name": place.job.name}
        if share.num_processes > 1:
            gang = placement_group([share.bundle] * share.num_processes)
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(gang, 0)
        words = (str(folder.workspace.root), str(folder.number), folder.digest, group.name, str(place.index))
        log = folder.logs / f"{group.name}-{place.index}.log"
        task = remote(_run_job, share, self._source, **options).remote(words, log, share)
        self._tasks[task] = place
        if share.num_processes > 1:
            self._gangs[task] = gang

    def wait(self) -> Sequence[Place]:
        import ray

        ended, _ = ray.wait([*self._tasks], timeout=_WAIT_SECONDS)
        if not ended and self._folder.has_ended and not all(self._is_done(p) for p in self._tasks.values()):
            raise CancelledError(f"plan {self._folder.number} was cancelled")
        return [place for task in ended if (place := self._end(task)) is not None]

    def stop(self) -> None:
        stop_tasks(self._tasks, self._config.cluster.grace_seconds)

    def _is_done(self, place: Place) -> bool:
        return is_done(self._folder, place.job)

    def _end(self, task: "ObjectRef") -> Place | None:
        """Return the job of a task that has ended, or None where it was stopped and goes on."""
        import ray
        from ray.util.placement_group import remove_placement_group

        place = self._tasks.pop(task)
        if task in self._gangs:
            remove_placement_group(self._gangs.pop(task))
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


def _run_job(words: Sequence[str], log: Path, share: Share) -> int:
    """Run a job in a worker; its output goes to a file."""
    with output_in(log):
        if share.num_processes == 1:
            return job.main(words)
        from slicewise.cluster.ray_training import OnRay
        from slicewise.training.launch import launched_by

        with launched_by(OnRay(share)):
            return job.main(words)
