"""Models and their exports side by side: speed by batch size and threads, size, and scores on patients.

They are measured alternately in one process, so that a busy neighbour slows all of them down alike.
"""

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from slicewise.core.disk import MIB
from slicewise.core.errors import UsageError
from slicewise.core.machine import processor_name, usable_cores
from slicewise.domain.report import Table
from slicewise.domain.tables import ComparisonRow
from slicewise.inference.speed import alternate, time_slices
from slicewise.runtime.bundle import is_bundle, machine_kind, read_bundle

if TYPE_CHECKING:
    from slicewise.data.cases import CaseFiles
    from slicewise.data.store import StoredCase
    from slicewise.inference.pipeline import Pipeline

TORCH: Final = "torch"
LABELS: Final = {"dice_per_patient": "Dice", "roc_auc": "AUC"}
_CASE_SHARE: Final = 6
"""Of the repeats, one in so many is spent on a whole case: it has over a hundred slices"""
_FEWEST: Final = 3


class Timing(NamedTuple):
    """Milliseconds."""

    median: float
    smallest: float
    largest: float

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> "Timing":
        """Return median and range of some measurements."""
        return cls(statistics.median(milliseconds), min(milliseconds), max(milliseconds))

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.smallest:.1f} to {self.largest:.1f})"


@dataclass(frozen=True)
class Entrant:
    """What is measured: a checkpoint in eager torch, or a graph of a bundle."""

    name: str
    path: Path
    backend: str

    @property
    def mebibytes(self) -> float:
        """Size on disk."""
        if self.backend == TORCH:
            return self.path.stat().st_size / MIB
        files = read_bundle(self.path).graphs[self.backend].files
        return sum((self.path / name).stat().st_size for name in files) / MIB

    def open(self, num_threads: int = 0) -> "Pipeline":
        """Return its pipeline on the CPU; torch takes its threads from the process."""
        from slicewise.inference.pipeline import Pipeline

        return Pipeline.load(self.path, backend=self.backend, device="cpu", num_threads=num_threads)


@dataclass(frozen=True)
class BenchmarkRow:
    """One entrant with one batch size and number of threads."""

    name: str
    batch_size: int
    num_threads: int
    slice_ms: Timing
    case_ms: Timing | None
    """From the files of a case to its mask on the disk; None without such a case"""
    mebibytes: float


@dataclass(frozen=True)
class Benchmark:
    """All measurements."""

    rows: tuple[BenchmarkRow, ...]
    scores: tuple[ComparisonRow, ...] = ()
    """Of each entrant, and its paired difference to the first; empty without patients"""
    subset: str = ""
    """Of the split that the patients are of"""
    case: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return all of it, with the machine."""
        rows = [asdict(row) for row in self.rows]
        for row in rows:
            for key in ("slice_ms", "case_ms"):
                row[key] = row[key] and Timing(*row[key])._asdict()
        return {
            "processor": processor_name(),
            "machine": machine_kind(),
            "cores": usable_cores(),
            "case": self.case or None,
            "subset": self.subset or None,
            "rows": rows,
            "scores": [asdict(row) for row in self.scores],
        }

    def to_table(self) -> Table:
        """Return a line for each measurement, with the ratio to the first entrant beside it."""
        scores = {(row.variant, row.source, row.score): row for row in self.scores if not row.minus}
        columns = list(dict.fromkeys((source, score) for _, source, score in scores))
        labels = [f"{LABELS[score]} {source}" for source, score in columns]
        head = ("model", "batch", "threads", "ms a slice", "speed", "ms a case", "MiB", *labels)
        first = {(row.batch_size, row.num_threads): row for row in reversed(self.rows)}
        cells = [
            (
                *(row.name, str(row.batch_size), str(row.num_threads), str(row.slice_ms)),
                f"{first[row.batch_size, row.num_threads].slice_ms.median / row.slice_ms.median:.2f} ×",
                *("–" if row.case_ms is None else f"{row.case_ms.median:,.0f}", f"{row.mebibytes:.1f}"),
                *(scores[row.name, source, score].value_text for source, score in columns),
            )
            for row in self.rows
        ]
        return Table(head, cells)


def find_entrants(paths: Sequence[Path]) -> list[Entrant]:
    """Return the checkpoints, and every graph of the bundles that runs without torch.

    Raises:
        UsageError: a bundle has no graph that can run here.
        CheckpointError: a bundle is damaged.
    """
    entrants = []
    for path in paths:
        if not is_bundle(path):
            entrants.append(Entrant(TORCH, path, TORCH))
            continue
        graphs = [each.name for each in read_bundle(path).graphs.values() if each.is_runnable]
        if not graphs:
            raise UsageError(f"no graph of {path} can run here; pip install 'slicewise[export]'")
        entrants += [Entrant(name, path, name) for name in graphs]
    if len({each.name for each in entrants}) < len(entrants):  # of several models
        entrants = [replace(each, name=f"{_folder_name(each.path)}: {each.backend}") for each in entrants]
    if len({each.name for each in entrants}) < len(entrants):
        entrants = [replace(each, name=f"{each.path}: {each.backend}") for each in entrants]
    return entrants


def _folder_name(path: Path) -> str:
    path = path.absolute()
    return path.name if path.is_dir() else path.parent.name


def run_benchmark(
    entrants: Sequence[Entrant],
    batch_sizes: Sequence[int],
    threads: Sequence[int],
    repeats: int,
    *,
    case: "CaseFiles | None" = None,
    patients: "Sequence[StoredCase]" = (),
    subset: str = "",
) -> Benchmark:
    """Measure and score all entrants.

    Args:
        entrants: of models with the same input.
        batch_sizes: slices at a time.
        threads: numbers of threads.
        repeats: measurements of each.
        case: for the time from its files to its mask.
        patients: those to score on; none: no scores.
        subset: of the split that they are of.
    """
    rows = []
    for num_threads in threads:
        pipelines = [each.open(num_threads) for each in entrants]
        _require_same_input(entrants, pipelines)
        with _torch_threads(num_threads):
            for batch_size in batch_sizes:
                title = f"batch {batch_size}, {num_threads} threads"
                for pipeline in pipelines:
                    pipeline.batch_size = batch_size
                slices = time_slices(pipelines, batch_size, repeats, title)
                cases = _time_case(pipelines, case, repeats, title) if case else [[] for _ in entrants]
                rows += [
                    BenchmarkRow(
                        *(each.name, batch_size, num_threads, Timing.of(own)),
                        Timing.of(whole) if whole else None,
                        each.mebibytes,
                    )
                    for each, own, whole in zip(entrants, slices, cases, strict=True)
                ]
    order = [each.name for each in entrants]
    rows.sort(key=lambda row: (row.num_threads, row.batch_size, order.index(row.name)))
    scores = score_entrants(entrants, patients) if patients else ()
    return Benchmark(tuple(rows), tuple(scores), subset if patients else "", case.key.case if case else "")


def _require_same_input(entrants: "Sequence[Entrant]", pipelines: "Sequence[Pipeline]") -> None:
    first = pipelines[0].checkpoints[0].preprocessing
    for entrant, pipeline in zip(entrants, pipelines, strict=True):
        own = pipeline.checkpoints[0].preprocessing
        if (own.channels, own.image_size) != (first.channels, first.image_size):
            raise UsageError(
                f"{entrant.path} takes slices of {own.image_size} pixels with the channels "
                f"{', '.join(own.channels)}, {entrants[0].path} of {first.image_size} with "
                f"{', '.join(first.channels)}; measure models of the same input"
            )


def _time_case(
    pipelines: "Sequence[Pipeline]", case: "CaseFiles", repeats: int, title: str
) -> list[list[float]]:
    """Return the milliseconds from the files of a case to its mask on the disk, likewise."""

    def predict(pipeline: "Pipeline") -> None:
        pipeline.predict(case).save_mask(Path(folder))

    with tempfile.TemporaryDirectory() as folder:
        calls = [partial(predict, each) for each in pipelines]
        return alternate(calls, max(_FEWEST, repeats // _CASE_SHARE), f"case, {title}")


@contextmanager
def _torch_threads(number: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def score_entrants(
    entrants: Sequence[Entrant], patients: "Sequence[StoredCase]", *, seed: int = 0
) -> list[ComparisonRow]:
    """Return Dice and AUC of each on the same patients, and the paired differences to the first."""
    return compare_models([(each.name, each.open()) for each in entrants], patients, seed=seed)


def compare_models(
    models: "Sequence[tuple[str, Pipeline]]", patients: "Sequence[StoredCase]", *, seed: int = 0
) -> list[ComparisonRow]:
    """Return Dice per patient and AUC of named pipelines, with intervals, by source.

    The thresholds are the configured ones; the intervals resample patients and keep the pairs.
    """
    from slicewise.domain.labels import TASKS
    from slicewise.evaluation.comparison import Variant, compare
    from slicewise.evaluation.evaluate import evaluate_slices
    from slicewise.metrics.table import METRICS
    from slicewise.workflow.evaluation import case_outputs

    settings = models[0][1].settings
    variants, bootstrap = [], None
    for name, pipeline in models:
        outputs = case_outputs(pipeline, patients, f"score {name}")
        result = evaluate_slices(outputs, settings, seed, surfaces=False)
        bootstrap = result.bootstrap
        variants.append(Variant.configured(name, result, {*TASKS} - {*pipeline.task_names}))
    assert bootstrap is not None
    return compare(variants, bootstrap, [METRICS["dice"], METRICS["roc_auc"]])
