"""The recipe of int8: a graph is accepted, or leaves nothing.

Losses are measured on the validation patients.
"""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from slicewise.core.errors import UsageError
from slicewise.core.files import read_json, write_json
from slicewise.core.hashing import hash_file
from slicewise.runtime.bundle import BUNDLE_NAME, machine_kind, read_bundle
from slicewise.workflow.acceptance import Judgement, Limits, differences
from slicewise.workflow.benchmark import Entrant, Timing, compare_models, time_slices
from slicewise.workflow.slices import stored_cases, workspace_of

if TYPE_CHECKING:
    from slicewise.data.store import StoredCase
    from slicewise.exporting.int8 import Calibration
    from slicewise.inference.pipeline import Pipeline

Report = Callable[[str], None]
CALIBRATION_SLICES: Final = 256
_REPEATS: Final = 30
_REPORT: Final = "results/report/report.json"


def add_int8(path: Path, limits: Limits, report: Report, folder: Path) -> None:
    """Add the int8 form of each graph of a bundle in `folder`, exported from the checkpoint at `path`.

    Raises:
        RefusedError: one is no faster than its fp32 graph, or loses too much.
        UsageError: the workspace has no training or validation patients, or a package is missing.
    """
    from slicewise.exporting.int8 import QUANTIZERS

    bundle = read_bundle(folder)
    calibration = _calibration(_cases(path, bundle.preprocessing, "train"))
    patients = _cases(path, bundle.preprocessing, "val")
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
        pair = [(each, Entrant(each, folder, each).open()) for each in (name, f"{name}_int8")]
        judgement = _judge(pair, patients, limits)
        judgement.require()
        _report(judgement, report)
        own["parity"] = {"passed": False, "machine": machine_kind(), **judgement.to_json()}
        write_json(folder / BUNDLE_NAME, content)


def _judge(
    pair: "Sequence[tuple[str, Pipeline]]", patients: "Sequence[StoredCase]", limits: Limits
) -> Judgement:
    """Compare two named pipelines: the smaller one is the second."""
    pipelines = [pipeline for _, pipeline in pair]
    before, after = time_slices(pipelines, 1, _REPEATS, "before and after")
    speed = statistics.median(old / new for old, new in zip(before, after, strict=True))
    rows = compare_models(pair, patients)
    return Judgement(pair[1][0], Timing.of(before), Timing.of(after), speed, differences(rows), limits)


def _report(judgement: Judgement, report: Report) -> None:
    for line in judgement.figures():
        report(f"  {judgement.name}: {line}")


def _cases(path: Path, preprocessing: Any, subset: Any) -> "list[StoredCase]":
    cases = stored_cases(workspace_of(path), preprocessing, subset)
    if not cases:
        raise UsageError(
            f"{workspace_of(path).root} holds no {subset} patients prepared for {path}; a smaller model is "
            "made in the workspace of the run that trained it"
        )
    return cases


def _calibration(cases: "Sequence[StoredCase]") -> "Calibration":
    """Return slices of training patients, evenly spaced over all that were chosen for training."""
    from slicewise.exporting.int8 import Calibration

    places = [(case, int(row)) for case in cases for row in np.flatnonzero(case.train & case.included)]
    chosen = np.unique(np.linspace(0, len(places) - 1, min(CALIBRATION_SLICES, len(places))).astype(int))
    images = [places[place][0].read([places[place][1]])[0] for place in chosen]
    presence = [places[place][0].presence for place in chosen]
    return Calibration(np.asarray(images, np.float32), np.asarray(presence, np.float32))
