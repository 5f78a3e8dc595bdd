"""A sealed plan: made once, never changed; its jobs make exactly what it names, or nothing."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

from slicewise.core.errors import WorkspaceError
from slicewise.core.files import parse_json, read_capped, write_json
from slicewise.core.hashing import digest
from slicewise.core.typed_json import from_json
from slicewise.engine.receipt import Identity
from slicewise.engine.workspace import StoredStep, Workspace

Where = Literal["slurm", "ray"]
BUNDLES: Final = "preprocess.cases"
"""The group of the bundles of cases"""
CPUS_VARIABLE: Final = "SLICEWISE_CPUS"
"""Of the environment: processors of a job beside others on a machine, of each process of a training"""
_PLAN_NAME: Final = "plan.json"
_REMEDY: Final = "its jobs make nothing. Stop them with `slicewise cancel`, then run again"


@dataclass(frozen=True)
class SealedStep:
    """A step whose output is to be made: its identity and its homes."""

    identity: Identity
    homes: Mapping[str, str]


@dataclass(frozen=True)
class Job:
    """A step, or of preprocessing a bundle of cases, named by their keys."""

    name: str
    step: str
    cases: tuple[str, ...] = ()

    def key(self, fingerprint: str) -> str:
        """Return what identifies the work, also in another plan."""
        return digest([fingerprint, *self.cases])[:16] if self.cases else fingerprint[:16]


@dataclass(frozen=True)
class Need:
    """A group that must be finished before; with `each`, only its job of the same place (the same fold)."""

    group: str
    each: bool


@dataclass(frozen=True)
class Group:
    """Jobs that are submitted together, as one array.

    Attributes:
        resources: section of `cluster` with what they ask for.
    """

    name: str
    resources: str
    jobs: tuple[Job, ...]
    after: tuple[Need, ...]


@dataclass(frozen=True)
class SealedPlan:
    """All that the jobs of a run need to know.

    Attributes:
        config: the configuration as composed.
        requests: step -> request of the command line that sealed the plan.
        source: name of the copy of the program.
        versions: of Python and the packages that decide a result.
        header: for the records of the jobs.
        on: what runs the jobs.
    """

    config: Mapping[str, Any]
    requests: Mapping[str, str]
    scope: str
    source: str
    versions: Mapping[str, str]
    header: Mapping[str, Any]
    steps: Mapping[str, SealedStep]
    groups: tuple[Group, ...]
    on: Where = "slurm"

    @property
    def goal(self) -> tuple[Any, ...]:
        """Configuration, requests and source, which two commands have in common that want the same."""
        return without_cluster(self.config), self.requests, self.source

    @property
    def jobs(self) -> Iterator[Job]:
        return (job for group in self.groups for job in group.jobs)

    def fingerprint(self, job: Job) -> str:
        """Return the fingerprint of the output that a job must make, or contribute to."""
        return self.steps[job.step].identity.fingerprint

    def stored_step(self, job: Job) -> StoredStep:
        return StoredStep(job.step, dict(self.steps[job.step].homes))


@dataclass(frozen=True)
class PlanFolder:
    """A sealed plan on disk, `.slicewise/cluster/<number>`; a later one has a larger number."""

    workspace: Workspace
    number: int

    @property
    def path(self) -> Path:
        return cluster_folder(self.workspace) / str(self.number)

    @cached_property
    def _raw(self) -> dict[str, Any]:
        path = self.path / _PLAN_NAME
        try:
            raw: dict[str, Any] = parse_json(read_capped(path))
            is_sealed = raw.pop("digest") == digest(raw)
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise WorkspaceError(f"{path} is damaged ({error}); {_REMEDY}") from error
        if not is_sealed:
            raise WorkspaceError(f"{path} was changed since it was sealed; {_REMEDY}")
        return raw

    @cached_property
    def digest(self) -> str:
        return digest(self._raw)

    @cached_property
    def plan(self) -> SealedPlan:
        """The plan.

        Raises:
            WorkspaceError: it was changed or is damaged.
        """
        plan: SealedPlan = from_json(SealedPlan, self._raw)
        return plan

    @property
    def logs(self) -> Path:
        return self.workspace.root / "logs" / f"jobs-{self.number}"

    def record(self, job: Job) -> Path:
        """Return the record of the last attempt at a job."""
        return self.path / "records" / f"{job.name}.json"

    def hashes(self, job: Job) -> Path:
        """Return what a bundle leaves when it is finished: hashes of its files and of its entries."""
        return self.path / "hashes" / f"{job.name}.json"

    def failure(self, job: Job) -> Path:
        """Return the error of the last attempt at a job, if that failed."""
        return self.path / "failures" / f"{job.name}.json"

    def progress(self, job: Job) -> Path:
        """Return the folder in which a running job says how far it is."""
        return self.path / "progress" / job.name

    @property
    def has_ended(self) -> bool:
        """Whether all jobs were found finished, or the plan was cancelled."""
        return (self.path / "ended").exists()

    def end(self) -> None:
        (self.path / "ended").touch()

    def slurm_name(self, group: str = "") -> str:
        """Return the name of a group in Slurm's queue, which other workspaces share; or how all begin."""
        return f"slicewise-{digest(str(self.workspace.root))[:8]}-{self.number}-{group}"


def without_cluster(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings without those of the jobs, which may be corrected while a plan is in progress."""
    return {name: section for name, section in config.items() if name != "cluster"}


def cluster_folder(workspace: Workspace) -> Path:
    return workspace.state / "cluster"


def source_folder(workspace: Workspace, source: str) -> Path:
    """Return a copy of the program, see `SealedPlan.source`."""
    return cluster_folder(workspace) / "source" / source


def write_plan(workspace: Workspace, plan: SealedPlan) -> PlanFolder:
    """Seal a plan under the next number. Only one process can create its folder."""
    folder = cluster_folder(workspace)
    folder.mkdir(parents=True, exist_ok=True)
    number = max(_numbers(workspace), default=0) + 1
    while True:
        try:
            (folder / str(number)).mkdir()
            break
        except FileExistsError:
            number += 1
    tree = json.loads(json.dumps(asdict(plan), allow_nan=False))
    sealed = PlanFolder(workspace, number)
    write_json(sealed.path / _PLAN_NAME, {**tree, "digest": digest(tree)})
    return sealed


def newest_plan(workspace: Workspace) -> PlanFolder | None:
    """Return the plan with the largest number, or None; one that was never wholly written does not count."""
    for number in sorted(_numbers(workspace), reverse=True):
        if (cluster_folder(workspace) / str(number) / _PLAN_NAME).is_file():
            return PlanFolder(workspace, number)
    return None


def _numbers(workspace: Workspace) -> list[int]:
    return [int(path.name) for path in cluster_folder(workspace).glob("*") if path.name.isdigit()]
