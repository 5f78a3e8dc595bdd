"""The folder of a bundle: written beside its place, compared with the checkpoint, renamed or dropped."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

import slicewise
from slicewise.core.files import read_json, write_json, write_text
from slicewise.core.hashing import hash_file
from slicewise.exporting.formats import FORMATS, Exported, Written
from slicewise.exporting.graph import Calibrations
from slicewise.exporting.parity import Inputs, Parity, ParityError, open_graph, prove
from slicewise.exporting.readme import describe
from slicewise.exporting.replaced_folder import replaced
from slicewise.inference.pipeline import Pipeline
from slicewise.inference.speed import time_slices
from slicewise.models.checkpoint import Checkpoint
from slicewise.runtime.bundle import BUNDLE_NAME, FORMAT, VERSION, is_bundle
from slicewise.runtime.graphs import GRAPHS

README: Final = "README.md"
_REPEATS: Final = 15
Report = Callable[[str], None]


def export(
    pipeline: Pipeline,
    formats: Sequence[str],
    folder: Path,
    inputs: Inputs,
    report: Report = lambda _: None,
    finish: Callable[[Path], None] = lambda _: None,
) -> Path:
    """Write a bundle of the model of a pipeline of torch; it replaces one that is there.

    Args:
        pipeline: of one checkpoint, loaded from its file.
        formats: names of `FORMATS`.
        folder: of the bundle.
        inputs: those on which each format is compared with the checkpoint.
        report: is given a line about each format.
        finish: may add to the bundle, or refuse it, before it is compared.

    Raises:
        ParityError: a format predicts something else; nothing is left of the bundle.
        UsageError: the folder holds something else, or a format needs a package that is not installed.
    """
    with replaced(folder, is_bundle, "a bundle") as partial:
        written = write_graphs(pipeline, formats, partial)
        finish(partial)
        for remark in (remark for each in written.values() for remark in each.remarks):
            report(remark)
        proven = [name for name, each in written.items() if each.runner in GRAPHS]
        _prove(pipeline, partial, proven, inputs, report)
        write_text(partial / README, describe(read_json(partial / BUNDLE_NAME), folder.name))
    return folder


def write_graphs(pipeline: Pipeline, formats: Sequence[str], folder: Path) -> dict[str, Written]:
    """Write a bundle without a proof into an empty folder; the arguments are those of `export`."""
    checkpoint, points = pipeline.checkpoints[0], pipeline.points
    assert isinstance(checkpoint, Checkpoint)
    scalings = Calibrations(points.volume.postprocessing.scaling, points.picture.postprocessing.scaling)
    exported = Exported(checkpoint, scalings, batch_size=pipeline.batch_size)
    written: dict[str, Written] = {}
    for format_name in formats:
        each = FORMATS[format_name](exported, folder)
        name = each.name or format_name
        earlier = written[name].details if name in written else {}
        written[name] = replace(each, details={**earlier, **each.details})
    write_json(folder / BUNDLE_NAME, _content(pipeline, checkpoint, written, folder))
    return written


def _prove(pipeline: Pipeline, folder: Path, names: Sequence[str], inputs: Inputs, report: Report) -> None:
    """Compare graphs with the checkpoint, time them, and write the record of it into the bundle.

    Raises:
        ParityError: one differs.
    """
    parities = prove(pipeline.paths[0], folder, names, inputs)
    content = read_json(folder / BUNDLE_NAME)
    for name, parity in parities.items():
        if not parity.passed:
            raise ParityError(_complaint(name, parity))
        times = time_slices([pipeline, open_graph(folder, name)], 1, _REPEATS, name)
        eager, own = map(statistics.median, times)
        report(f"{name}: {parity.describe()}; {own:.1f} ms a slice, torch {eager:.1f} ms")
        record = {**parity.to_json(), "milliseconds": own, "milliseconds_torch": eager}
        content["graphs"][name]["parity"] = record
    write_json(folder / BUNDLE_NAME, content)


def _complaint(name: str, parity: Parity) -> str:
    return (
        f"{name} predicts something else than the checkpoint, so nothing was written: {parity.describe()}. "
        f"{parity.worst}. Please report it with the model's settings; another --format may agree"
    )


def _content(
    pipeline: Pipeline, checkpoint: Checkpoint, written: Mapping[str, Written], folder: Path
) -> dict[str, Any]:
    """Return what `runtime.bundle` reads, without the parity of the graphs."""
    path = pipeline.paths[0]
    plain = ("stage", "metrics", "fingerprint", "data_name", "synthetic", "slot", "weights_digest")
    appearance = checkpoint.reference and checkpoint.reference.appearance
    model = {name: getattr(checkpoint, name) for name in plain}
    model |= {name: getattr(checkpoint, name).model_dump() for name in ("model", "preprocessing", "tasks")}
    model["metrics"] = {name: value for name, value in model["metrics"].items() if math.isfinite(value)}
    graphs = {
        name: {
            "runner": each.runner,
            "files": {file: hash_file(folder / file) for file in each.files},
            "parity": {},
            "details": dict(each.details),
        }
        for name, each in written.items()
    }
    return {
        "format": FORMAT,
        "version": VERSION,
        "made_by": f"slicewise {slicewise.__version__}",
        "source": {"name": path.name, "size": path.stat().st_size, "sha256": hash_file(path)},
        "graphs": graphs,
        "model": model,
        "evaluation": pipeline.settings.model_dump(),
        "points": pipeline.points.to_bundle(),
        "appearance": appearance and {kind: asdict(each) for kind, each in appearance.items()},
    }
