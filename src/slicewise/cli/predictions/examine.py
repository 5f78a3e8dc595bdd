"""Examine the cases one by one; one that cannot be read stops no other."""

from collections.abc import Callable, Sequence
from pathlib import Path

from slicewise.cli.predictions.masks import write_mask
from slicewise.cli.predictions.networks import Network
from slicewise.cli.predictions.table import PredictionRow, failed_row, found_row
from slicewise.core.console import progress
from slicewise.core.errors import DataError
from slicewise.core.labels import MODALITIES
from slicewise.data.cases import CaseFiles
from slicewise.data.check import check_case
from slicewise.data.problems import Problem
from slicewise.data.reading import read_case
from slicewise.evaluation.answer import answer, untrained

Tell = Callable[[PredictionRow], None]


def examine(
    network: Network, cases: Sequence[CaseFiles], folder: Path, batch_size: int, tell: Tell
) -> list[PredictionRow]:
    """Write the mask of every case into `folder` and return a row for each, also for those that failed.

    Args:
        network: who answers.
        cases: as `data.inputs.find_inputs` found them.
        folder: where the masks go.
        batch_size: slices per pass of the network.
        tell: called with each row as soon as it is known.
    """
    rows = []
    for case in progress(cases, desc="predict", unit="case"):
        try:
            row = _examine(network, case, folder, batch_size)
        except DataError as error:
            row = failed_row(str(error), **_known(network, case))
        tell(row)
        rows.append(row)
    return rows


def row_of_problem(network: Network, problem: Problem) -> PredictionRow:
    """Return the row of a file or folder that is no case."""
    predictor = network.predictor
    return failed_row(
        str(problem),
        case=problem.path.name,
        path=str(problem.path),
        kind=None,
        synthetic=predictor.synthetic,
        fingerprint=predictor.fingerprint,
    )


def _examine(network: Network, case: CaseFiles, folder: Path, batch_size: int) -> PredictionRow:
    problems = check_case(case)
    if faults := [problem for problem in problems if problem.severity == "error"]:
        raise DataError("; ".join(map(str, faults)))
    volume = read_case(case)
    found = network.predictor.predict_volume(volume, batch_size)
    point = network.points.of("picture" if case.kind == "picture" else "volume")
    slices = found.slices
    decided = answer(
        volume,
        found.sliced,
        slices.mask_probability,
        slices.class_probability,
        point.decision,
        network.predictor.not_trained,
    )
    mask = None if decided.mask is None else write_mask(folder, case, volume, decided.mask)
    seen = [modality for modality, there in zip(MODALITIES, volume.presence, strict=True) if there]
    odd = (f"{problem.path.name}: {problem.what}" for problem in problems)
    note = "; ".join(filter(None, (untrained(network.predictor.not_trained), *odd, *volume.notes))) or None
    return found_row(decided, point, mask=mask, modalities=seen, note=note, **_known(network, case))


def _known(network: Network, case: CaseFiles) -> dict[str, object]:
    path = case.images[0] if len(case.images) == 1 else case.folder
    predictor = network.predictor
    return {
        "case": case.key.case,
        "path": str(path),
        "kind": case.kind,
        "synthetic": predictor.synthetic,
        "fingerprint": predictor.fingerprint,
    }
