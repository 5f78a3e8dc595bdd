"""A step of the pipeline, the context it runs in, and what it returns."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from slicewise.core.errors import ConfigError, WorkspaceError
from slicewise.core.hashing import HashCache
from slicewise.engine.receipt import Receipt
from slicewise.engine.workspace import Workspace

C = TypeVar("C")


@dataclass(frozen=True)
class Input:
    """A folder outside the workspace whose content decides an output.

    Attributes:
        root: the folder; where it lies does not matter.
        files: lists exactly the files that the step reads of it; only these are compared.
    """

    root: Path
    files: Callable[[], Iterable[Path]]


@dataclass(frozen=True)
class Outcome:
    """What a finished step returns.

    Attributes:
        metrics: plain numbers, strings and nested dicts for the record.
        notes: sentences for the terminal and the record, e.g. which cases were left out.
        shared: files outside the step's homes that its output refers to (raw data, slice entries); they are
            verified with it but may belong to several outputs.
    """

    metrics: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    shared: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Demand:
    """The disk and memory that a step will need, estimated before it starts.

    Attributes:
        disk_bytes: peak addition to the workspace.
        memory_bytes: peak of the process and its workers.
        least_memory_bytes: needed for one unit of the work (a case, the smallest batch).
        remedy: how to need less memory, with the keys to set.
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
        partial: folder for work in progress. It survives a kill, and the next attempt at the same fingerprint
            may continue there.
        homes: finished outputs of the steps it needs, by (step, slot).
        needs: fingerprints of the steps it needs.
        hashes: cached content hashes of files outside the workspace.
        faulty: shared files of this step's outputs that are missing or changed; a step that can make them
            again must do so, because the files it returns get new checksums.
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
        """Return the folder that becomes the home `slot` when the step succeeds."""
        path = self.partial / slot
        path.mkdir(parents=True, exist_ok=True)
        return path

    def home(self, step: str, slot: str) -> Path:
        """Return a finished output of a needed step."""
        return self.homes[step, slot]

    def receipt(self, step: str) -> Receipt:
        """Return the receipt of a needed step.

        Raises:
            WorkspaceError: it is damaged.
        """
        folder = next(home for (name, _), home in self.homes.items() if name == step)
        receipt = Receipt.read(folder)
        if receipt is None:
            raise WorkspaceError(
                f"the receipt in {self.workspace.relative(folder)} is damaged; run `slicewise verify`, "
                "then the same command again"
            )
        return receipt


@dataclass(frozen=True)
class Step(Generic[C]):
    """One step of a pipeline.

    Attributes:
        run: does the work in a context; imports heavy code only when called.
        settings: returns the part of the configuration that decides the output, by dotted key.
        needs: steps whose outputs it reads.
        homes: slot -> folder relative to the workspace.
        redirects: page -> page it leads to, both relative to the workspace; written with the output.
        inputs: name -> folder outside the workspace whose content decides the output.
        product: glob patterns of the files that later steps depend on; when a rerun gives them the same
            content, later steps stay valid. Timings and pictures do not belong here.
        version: raised when the same settings should give another output.
        is_live: for a service without homes: does it run, for this fingerprint?
        question: returns what to confirm at a terminal before a run replaces an output, or None.
        check: raises ConfigError for a configuration that it cannot run; called before any step runs.
        demand: estimates the disk and the memory that a run needs.
        group: part of the pipeline, which a mode of the command line selects: data, train, evaluate or demo.
        aliases: further names on the command line; one that several steps have stands for all of them.
        after: step that it stands behind, for one of another package; without it, the last one that it needs.
        highlights: path relative to the workspace -> what a person finds there, shown after a run.
        per_fold: whether a cross-validation repeats it in every fold.
        fold: the number of its fold; 0 outside folds.
        plain_name: its name without the fold.
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
    check: Callable[[C], None] = lambda _: None
    demand: Callable[[Context[C]], Demand] = lambda _: Demand()
    group: str = ""
    aliases: tuple[str, ...] = ()
    after: str = ""
    highlights: Mapping[str, str] = field(default_factory=dict)
    per_fold: bool = False
    fold: int = 0
    plain_name: str = ""

    @property
    def option(self) -> str:
        """The name after `--until` and `--skip-`."""
        return self.plain_name or self.name

    def is_called(self, name: str) -> bool:
        """Whether a name on the command line means this step, alone or with others."""
        return name in (self.name, self.option, *self.aliases, "all")


def check_graph(steps: Sequence[Step[C]]) -> None:
    """Check the steps of a pipeline together.

    Raises:
        ConfigError: a name or home is used twice, an alias is the name of another step, or a step needs one
            that does not exist or stands after it.
    """
    names, homes = [step.name for step in steps], dict[str, str]()
    for place, step in enumerate(steps):
        if step.name in names[:place]:
            raise ConfigError(f"two steps are called {step.name}; rename one of them")
        if taken := {*step.aliases} & ({*names} - {step.name}):
            raise ConfigError(f"{min(taken)} is a step and a short name of {step.name}; rename one of them")
        if not step.homes and step.is_live is None:
            raise ConfigError(f"step {step.name} has neither a home nor `is_live`; give it one of them")
        for need in (need for need in step.needs if need not in names[:place]):
            fault = "stands after it" if need in names else "does not exist"
            raise ConfigError(
                f"step {step.name} needs {need}, which {fault}; the steps are {', '.join(names)}"
            )
        for home in step.homes.values():
            if home in homes:
                raise ConfigError(f"{homes[home]} and {step.name} have the same home {home}; choose another")
            homes[home] = step.name
