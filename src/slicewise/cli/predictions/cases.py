"""Examine the cases one by one; one that cannot be read stops no other."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from slicewise.cli.predictions.masks import write_mask
from slicewise.cli.predictions.models import TrainedModel
from slicewise.cli.predictions.table import PredictionRow, failed_row, predicted_row
from slicewise.compute.threads import Threads, tuned_threads
from slicewise.core.console import progress, say
from slicewise.core.errors import DataError
from slicewise.data.case_reader import read_case
from slicewise.data.cases import CaseFiles
from slicewise.data.check import require_readable
from slicewise.data.problems import Problem
from slicewise.domain.labels import MODALITIES
from slicewise.inference.prediction import postprocess_volume, untrained_note

_MIN_PICTURES_TO_MEASURE: Final = 16
OnRow = Callable[[PredictionRow], None]


def predict_cases(
    model: TrainedModel,
    cases: Sequence[CaseFiles],
    folder: Path,
    batch_size: int,
    on_row: OnRow,
    *,
    num_threads: int = 0,
) -> list[PredictionRow]:
    """Write the mask of every case into `folder` and return a row for each, also for those that failed.

    Args:
        model: who answers.
        cases: as `data.inputs.find_inputs` found them.
        folder: where the masks go.
        batch_size: slices per pass of the network.
        on_row: called with each row as soon as it is known.
        num_threads: of the network; 0 to choose.
    """
    rows = []
    with _threads(model, cases, num_threads):
        for case in progress(cases, desc="predict", unit="case"):
            try:
                row = _predict_case(model, case, folder, batch_size)
            except DataError as error:
                row = failed_row(str(error), **_identity(model, case))
            on_row(row)
            rows.append(row)
    return rows


def _threads(
    model: TrainedModel, cases: Sequence[CaseFiles], num_threads: int
) -> AbstractContextManager[Threads]:
    """Choose the threads by a measurement where there is much to do."""
    is_long = len(cases) >= _MIN_PICTURES_TO_MEASURE or any(case.kind != "picture" for case in cases)
    if is_long:
        return tuned_threads(num_threads, "predict", model.predictor.device.type)
    return Threads.for_short_work(num_threads, "predict")


def problem_row(model: TrainedModel, problem: Problem) -> PredictionRow:
    """Return the row of a file or folder that is no case."""
    predictor = model.predictor
    return failed_row(
        str(problem),
        case=problem.path.name,
        path=str(problem.path),
        kind=None,
        synthetic=predictor.synthetic,
        fingerprint=predictor.fingerprint,
    )


def _predict_case(model: TrainedModel, case: CaseFiles, folder: Path, batch_size: int) -> PredictionRow:
    problems = require_readable(case)
    volume = read_case(case)
    predicted = model.predictor.predict_volume(volume, batch_size)
    point = model.points.of("picture" if case.kind == "picture" else "volume")
    slices = predicted.slices
    prediction = postprocess_volume(
        volume,
        predicted.sliced,
        slices.mask_probability,
        slices.class_probability,
        point.postprocessing,
        model.predictor.not_trained,
    )
    mask = None if prediction.mask is None else write_mask(folder, case, volume, prediction.mask)
    modalities_found = [
        modality for modality, is_present in zip(MODALITIES, volume.presence, strict=True) if is_present
    ]
    remarks_found = [*(f"{problem.path.name}: {problem.what}" for problem in problems), *volume.remarks]
    for what in remarks_found:
        say(what, "warn")
    note = "; ".join(filter(None, (untrained_note(model.predictor.not_trained), *remarks_found))) or None
    return predicted_row(
        prediction, point, mask=mask, modalities=modalities_found, note=note, **_identity(model, case)
    )


def _identity(model: TrainedModel, case: CaseFiles) -> dict[str, object]:
    path = case.images[0] if len(case.images) == 1 else case.folder
    predictor = model.predictor
    return {
        "case": case.key.case,
        "path": str(path),
        "kind": case.kind,
        "synthetic": predictor.synthetic,
        "fingerprint": predictor.fingerprint,
    }
