"""Smaller and faster forms of a model, each accepted or refused: int8, another encoder, fewer channels.

Speed is that of the exported graphs, losses are those of the validation patients; nothing is written of what
is refused.
"""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from slicewise.core.errors import UsageError
from slicewise.core.files import read_json, write_json
from slicewise.core.hashing import hash_file
from slicewise.inference.operating_points import CALIBRATION_NAME, find_calibration
from slicewise.inference.speed import time_slices
from slicewise.runtime.bundle import BUNDLE_NAME, RUNNERS, machine_kind, read_bundle
from slicewise.workflow.acceptance import Judgement, Limits, Speed, differences
from slicewise.workflow.benchmark import Entrant, Timing, compare_models
from slicewise.workflow.slices import require_cases

if TYPE_CHECKING:
    from slicewise.config.schema import Config
    from slicewise.data.store import StoredCase
    from slicewise.exporting.int8 import Calibration
    from slicewise.inference.pipeline import Pipeline
    from slicewise.models.checkpoint import Checkpoint
    from slicewise.workflow.smaller_model import Recipe

Report = Callable[[str], None]
CALIBRATION_SLICES: Final = 256
CHECKPOINT: Final = "best_model.pth"
_REPEATS: Final = 30
_ORIGINAL: Final = "original"


@dataclass(frozen=True)
class Candidate:
    """A smaller model before it is accepted."""

    path: Path
    """Its checkpoint"""
    teacher: Path
    """The checkpoint that it learned from"""
    graphs: Path
    """A bundle of the teacher's graphs, which were not proven"""
    recipe: "Recipe"

    def accept(self, limits: Limits, report: Report, folder: Path) -> None:
        """Compare each graph of the bundle in `folder` with the teacher's, and add the checkpoint to it.

        Raises:
            RefusedError: one is no faster, or loses too much.
        """
        bundle = read_bundle(folder)
        patients = require_cases(self.teacher, bundle.preprocessing, "val")
        judged = {}
        for name in _runnable(folder):
            judgement = _judge(self.opponent(name), Entrant(name, folder, name), patients, limits)
            judgement.require()
            _report(judgement, report)
            judged[name] = judgement.to_json()
        content = read_json(folder / BUNDLE_NAME)
        teacher = {"name": self.teacher.name, "sha256": hash_file(self.teacher)}
        content["smaller"] = {"recipe": self.recipe.describe(), "teacher": teacher, "graphs": judged}
        write_json(folder / BUNDLE_NAME, content)
        for file in (self.path, self.path.with_name(CALIBRATION_NAME)):
            if file.is_file():
                shutil.copy(file, folder)

    def opponent(self, name: str) -> Entrant:
        """Return the graph of the teacher that one of this model would replace."""
        return Entrant(f"the original {name}", self.graphs, name)


def make_candidate(
    path: Path, recipe: "Recipe", formats: Sequence[str], limits: Limits, report: Report, work: Path
) -> Candidate:
    """Return a smaller model of the checkpoint at `path`, trained, in the folder `work`.

    Where the checkpoint was evaluated, thresholds of the smaller one are selected on validation patients.

    Raises:
        RefusedError: it cannot be faster; this is found out before it is trained.
        UsageError: the workspace lacks what training needs, or no format can be measured.
    """
    from slicewise.exporting.folder import write_graphs
    from slicewise.inference.pipeline import Pipeline
    from slicewise.models.checkpoint import save_checkpoint
    from slicewise.workflow.smaller_model import make_smaller

    measured = [name for name in formats if name in RUNNERS]
    if not measured:
        raise UsageError(
            f"--prune and --distill need a --format of {', '.join(RUNNERS)}: their speed is measured"
        )
    original = Pipeline.load(path, backend="torch", device="cpu")
    candidate = Candidate(work / CHECKPOINT, path, work / _ORIGINAL, recipe)
    candidate.graphs.mkdir()
    write_graphs(original, measured, candidate.graphs)

    def check(untrained: "Checkpoint") -> None:
        with tempfile.TemporaryDirectory(dir=work) as folder:
            copy = Path(folder, CHECKPOINT)
            save_checkpoint(copy, untrained)
            bundle = Path(folder, "bundle")
            bundle.mkdir()
            write_graphs(Pipeline.load(copy, backend="torch", device="cpu"), measured, bundle)
            for name in measured if limits.must_be_faster else []:
                pair = candidate.opponent(name), Entrant(name, bundle, name)
                _speed([each.open() for each in pair]).require(name)

    smaller, config = make_smaller(path, recipe, check, report)
    save_checkpoint(candidate.path, smaller)
    if find_calibration(path):
        _select_thresholds(candidate, smaller, config)
    return candidate


def _select_thresholds(candidate: Candidate, smaller: "Checkpoint", config: "Config") -> None:
    from slicewise.inference.pipeline import Pipeline
    from slicewise.workflow.evaluation import select_operating_points

    pipeline = Pipeline([smaller], config.evaluation, device=config.runtime.device)
    cases = require_cases(candidate.teacher, smaller.preprocessing, "val")
    _, content = select_operating_points(pipeline, cases, config)
    write_json(candidate.path.with_name(CALIBRATION_NAME), content)


def add_int8(
    path: Path, limits: Limits, report: Report, folder: Path, candidate: Candidate | None = None
) -> None:
    """Add the int8 form of each graph of a bundle in `folder`.

    `path` is a checkpoint of the workspace with the patients. Each is compared with its fp32 graph, and that
    of a smaller model also with the graph of its teacher.

    Raises:
        RefusedError: one is no faster, or loses too much.
        UsageError: the workspace has no training or validation patients, or a package is missing.
    """
    from slicewise.exporting.int8 import QUANTIZERS

    bundle = read_bundle(folder)
    calibration = _calibration(require_cases(path, bundle.preprocessing, "train"))
    patients = require_cases(path, bundle.preprocessing, "val")
    content = read_json(folder / BUNDLE_NAME)
    names = [name for name, graph in bundle.graphs.items() if graph.runner in QUANTIZERS]
    if not names:
        raise UsageError(f"--int8 needs a --format of {', '.join(QUANTIZERS.names())}")
    for name in names:
        source = bundle.graph(name)
        target = source.with_name(f"{source.stem}_int8{source.suffix}")
        files = QUANTIZERS[bundle.graphs[name].runner](source, target, calibration)
        own: dict[str, Any] = {
            "runner": bundle.graphs[name].runner,
            "files": {file: hash_file(folder / file) for file in files},
            "parity": {},
            "details": {**content["graphs"][name]["details"], "calibration_slices": len(calibration.images)},
        }
        content["graphs"][f"{name}_int8"] = own
        write_json(folder / BUNDLE_NAME, content)
        graph = Entrant(f"{name}_int8", folder, f"{name}_int8")
        opponents = [Entrant(name, folder, name), *([candidate.opponent(name)] if candidate else [])]
        for opponent in opponents:
            judgement = _judge(opponent, graph, patients, limits)
            judgement.require()
            _report(judgement, report)
        own["parity"] = {"passed": False, "machine": machine_kind(), **judgement.to_json()}
        write_json(folder / BUNDLE_NAME, content)


def _runnable(folder: Path) -> list[str]:
    return [name for name, graph in read_bundle(folder).graphs.items() if graph.runner in RUNNERS]


def _judge(before: Entrant, after: Entrant, patients: "Sequence[StoredCase]", limits: Limits) -> Judgement:
    """Compare a graph with the one that it would replace."""
    pair = [(each.name, each.open()) for each in (before, after)]
    speed = _speed([pipeline for _, pipeline in pair])
    return Judgement(after.name, speed, differences(compare_models(pair, patients)), limits, before.name)


def _speed(pipelines: "Sequence[Pipeline]") -> Speed:
    before, after = time_slices(pipelines, 1, _REPEATS, "before and after")
    return Speed(Timing.of(before), Timing.of(after), min(before) / min(after))


def _report(judgement: Judgement, report: Report) -> None:
    for line in judgement.figures():
        report(f"  {judgement.name} against {judgement.opponent}: {line}")


def _calibration(cases: "Sequence[StoredCase]") -> "Calibration":
    """Return slices of training patients, evenly spaced over all that were chosen for training."""
    from slicewise.exporting.int8 import Calibration

    places = [(case, int(row)) for case in cases for row in np.flatnonzero(case.train & case.included)]
    chosen = np.unique(np.linspace(0, len(places) - 1, min(CALIBRATION_SLICES, len(places))).astype(int))
    images = [places[place][0].read([places[place][1]])[0] for place in chosen]
    presence = [places[place][0].presence for place in chosen]
    return Calibration(np.asarray(images, np.float32), np.asarray(presence, np.float32))
