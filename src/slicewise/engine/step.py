"""What can be done: a step, the context it runs in, and what it reports."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from slicewise.core.hashing import HashCache
from slicewise.engine.workspace import Workspace

C = TypeVar("C")


@dataclass(frozen=True)
class Input:
    """A folder outside the workspace whose content decides an output.

    Attributes:
        root: the folder; where it lies does not matter.
        files: lists what the step reads of it, and nothing else: only that is compared.
    """

    root: Path
    files: Callable[[], Iterable[Path]]


@dataclass(frozen=True)
class Outcome:
    """What a step tells about itself when it has finished.

    Attributes:
        metrics: plain numbers, strings and nested dicts for the record.
        notes: sentences for the person at the terminal and the record, e.g. cases that were left out.
        shared: files outside the step's homes that its output refers to (raw data, slice entries); they are
            verified with it but belong to nobody alone.
    """

    metrics: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    shared: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Demand:
    """What a step is about to need, estimated before it starts.

    Attributes:
        disk_bytes: added to the workspace at the moment when it is fullest.
        memory_bytes: held by the process and its workers at their peak.
        least_memory_bytes: without which not even one unit of the work (a case, the smallest batch) fits.
        remedy: how to need less memory, naming the keys.
    """

    disk_bytes: int = 0
    memory_bytes: int = 0
    least_memory_bytes: int = 0
    remedy: str = ""


@dataclass(frozen=True)
class Context(Generic[C]):
    """What a step may use while it runs.

    Attributes:
        fingerprint: identity of the output being made.
        partial: folder for work in progress. It survives a kill and is handed to the next attempt at the
            same fingerprint, so a step may continue there.
        homes: finished outputs of the steps it needs, by (step, slot).
        needs: fingerprints of the steps it needs.
        hashes: remembered content hashes of files outside the workspace.
        faulty: shared files that outputs of this step refer to and that are not as they were sealed; a step
            that can make them again must do so, for what it hands over is sealed anew.
    """

    config: C
    workspace: Workspace
    fingerprint: str
    partial: Path
    homes: Mapping[tuple[str, str], Path]
    needs: Mapping[str, str]
    hashes: HashCache
    faulty: tuple[Path, ...] = ()

    def out(self, slot: str) -> Path:
        """Return the folder that becomes the home `slot` when the step ends well."""
        path = self.partial / slot
        path.mkdir(parents=True, exist_ok=True)
        return path

    def home(self, step: str, slot: str) -> Path:
        """Return a finished output of a needed step."""
        return self.homes[step, slot]


@dataclass(frozen=True)
class Step(Generic[C]):
    """One step of a pipeline.

    Attributes:
        run: does the work in a context; imports heavy code only when called.
        settings: picks the narrow part of the configuration that decides the output, by dotted key.
        needs: steps whose outputs it reads.
        homes: slot -> folder relative to the workspace, under the names people know.
        pointers: page -> page it leads to, both relative to the workspace: names that people look for and
            that are no home. The page holds nothing but the way; it is written when the output comes home.
        inputs: name -> folder outside the workspace whose content decides the output.
        product: glob patterns of the files that later steps depend on; when a rerun makes them anew with
            the same content, later steps stay valid. Timings and pictures do not belong here.
        version: raised when the same settings should give another output.
        is_live: for a service without homes: does it run, for this fingerprint?
        question: asked at a terminal before a run would replace what the person may want to keep;
            returns None where there is nothing to ask.
        demand: estimates the disk and the memory that a run would take.
        called: what the command line calls it, where that is not its name.
    """

    name: str
    run: Callable[[Context[C]], Outcome]
    settings: Callable[[C], Mapping[str, Any]]
    needs: tuple[str, ...] = ()
    homes: Mapping[str, str] = field(default_factory=dict)
    redirects: Mapping[str, str] = field(default_factory=dict)
    inputs: Callable[[C], Mapping[str, Input]] = lambda _: {}
    product: tuple[str, ...] = ("*",)
    version: int = 1
    is_live: Callable[[Workspace, str], bool] | None = None
    question: Callable[[C, Workspace], str | None] = lambda *_: None
    demand: Callable[[Context[C]], Demand] = lambda _: Demand()
    called: str = ""

    @property
    def option(self) -> str:
        """The name after `--until` and `--skip-`."""
        return self.called or self.name


def check_order(steps: tuple[Step[C], ...]) -> None:
    """Raise ValueError unless names and homes are unique and every need stands before its user."""
    names: set[str] = set()
    homes: set[str] = set()
    for step in steps:
        if step.name in names or not set(step.needs) <= names:
            raise ValueError(f"step {step.name} is repeated, or needs a step that stands after it")
        if homes & set(step.homes.values()):
            raise ValueError(f"step {step.name} shares a home with another step")
        if not step.homes and step.is_live is None:
            raise ValueError(f"step {step.name} has neither a home nor a way to tell that it runs")
        names.add(step.name)
        homes.update(step.homes.values())
