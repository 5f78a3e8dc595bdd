"""Predict on cases one by one; one that cannot be read does not stop the others."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from slicewise.cli.predictions.masks import write_mask
from slicewise.cli.predictions.models import TrainedModel
from slicewise.cli.predictions.table import PredictionRow
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


def predict_cases(
    model: TrainedModel,
    cases: Sequence[CaseFiles],
    folder: Path,
    batch_size: int,
    on_row: Callable[[PredictionRow], None],
    *,
    num_threads: int = 0,
) -> list[PredictionRow]:
    """Write the mask of every case into `folder` and return a row for each, failed ones included.

    Args:
        model: predicts.
        cases: as returned by `data.inputs.find_inputs`.
        folder: where the masks go.
        batch_size: slices per forward pass.
        on_row: called with each row as soon as it is known.
        num_threads: of the model; 0 to choose, by a measurement where there is enough to do.
    """
    is_long = len(cases) >= _MIN_PICTURES_TO_MEASURE or any(case.kind != "picture" for case in cases)
    threads = (
        tuned_threads(num_threads, "predict", model.predictor.device.type)
        if is_long
        else Threads.for_short_work(num_threads, "predict")
    )
    rows = []
    with threads:
        for case in progress(cases, desc="predict", unit="case"):
            path = case.images[0] if len(case.images) == 1 else case.folder
            row = _empty_row(model, case.key.case, path, case.kind)
            try:
                row = _predict_case(model, case, folder, batch_size, row)
            except DataError as error:
                row = replace(row, error=str(error))
            on_row(row)
            rows.append(row)
    return rows


def problem_row(model: TrainedModel, problem: Problem) -> PredictionRow:
    """Return the row of a file or folder that is not a case."""
    return replace(_empty_row(model, problem.path.name, problem.path, None), error=str(problem))


def _empty_row(model: TrainedModel, name: str, path: Path, kind: str | None) -> PredictionRow:
    predictor = model.predictor
    return PredictionRow(
        case=name,
        path=str(path),
        kind=kind,
        synthetic=predictor.synthetic,
        fingerprint=predictor.fingerprint,
    )


def _predict_case(
    model: TrainedModel, case: CaseFiles, folder: Path, batch_size: int, row: PredictionRow
) -> PredictionRow:
    """Write the mask of one case; return its row, completed with the prediction."""
    problems = require_readable(case)
    volume = read_case(case)
    predicted = model.predictor.predict_volume(volume, batch_size)
    point = model.points.of("picture" if case.kind == "picture" else "volume")
    not_trained = model.predictor.not_trained
    prediction = postprocess_volume(
        volume,
        predicted.sliced,
        predicted.slices.mask_probability,
        predicted.slices.class_probability,
        point.postprocessing,
        not_trained,
    )
    mask = None if prediction.mask is None else write_mask(folder, case, volume, prediction.mask)
    warnings = [*(f"{problem.path.name}: {problem.what}" for problem in problems), *volume.remarks]
    for warning in warnings:
        say(warning, "warn")
    is_classified = prediction.verdict is not None
    return replace(
        row,
        mask=mask,
        modalities=" ".join(name for name, here in zip(MODALITIES, volume.presence, strict=True) if here),
        verdict=prediction.verdict,
        tumour_probability=prediction.tumour_probability,
        class_threshold=point.postprocessing.class_threshold if is_classified else None,
        calibrated=point.calibrated if is_classified else None,
        volume_ml=prediction.volume_ml,
        mask_threshold=None if mask is None else point.postprocessing.mask_threshold,
        chosen=point.origin,
        note="; ".join(filter(None, (untrained_note(not_trained), *warnings))) or None,
    )
