"""Examine the cases one by one; one that cannot be read stops no other."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from slicewise.cli.predictions.masks import write_mask
from slicewise.cli.predictions.networks import Network
from slicewise.cli.predictions.table import PredictionRow, failed_row, found_row
from slicewise.compute.threads import Threads, chosen_threads
from slicewise.core.console import progress, say
from slicewise.core.errors import DataError
from slicewise.core.labels import MODALITIES
from slicewise.data.cases import CaseFiles
from slicewise.data.check import require_sound
from slicewise.data.problems import Problem
from slicewise.data.reading import read_case
from slicewise.evaluation.answer import answer, untrained

_MANY_PICTURES: Final = 16
Tell = Callable[[PredictionRow], None]


def examine(
    network: Network,
    cases: Sequence[CaseFiles],
    folder: Path,
    batch_size: int,
    tell: Tell,
    *,
    num_threads: int = 0,
) -> list[PredictionRow]:
    """Write the mask of every case into `folder` and return a row for each, also for those that failed.

    Args:
        network: who answers.
        cases: as `data.inputs.find_inputs` found them.
        folder: where the masks go.
        batch_size: slices per pass of the network.
        tell: called with each row as soon as it is known.
        num_threads: of the network; 0 to choose.
    """
    rows = []
    with _threads(network, cases, num_threads):
        for case in progress(cases, desc="predict", unit="case"):
            try:
                row = _examine(network, case, folder, batch_size)
            except DataError as error:
                row = failed_row(str(error), **_known(network, case))
            tell(row)
            rows.append(row)
    return rows


def _threads(
    network: Network, cases: Sequence[CaseFiles], num_threads: int
) -> AbstractContextManager[Threads]:
    """Choose the threads by a measurement where there is much to do."""
    is_long = len(cases) >= _MANY_PICTURES or any(case.kind != "picture" for case in cases)
    if is_long:
        return chosen_threads(num_threads, "predict", network.predictor.device.type)
    return Threads.for_short_work(num_threads, "predict")


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
    problems = require_sound(case)
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
    odd = [*(f"{problem.path.name}: {problem.what}" for problem in problems), *volume.remarks]
    for what in odd:
        say(what, "warn")
    note = "; ".join(filter(None, (untrained(network.predictor.not_trained), *odd))) or None
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
