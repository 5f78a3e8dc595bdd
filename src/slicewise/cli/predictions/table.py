"""The tables of all answers: predictions.csv for people, predictions.json for programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from slicewise.core.files import write_json
from slicewise.domain.tables import write_rows
from slicewise.inference.operating_points import OperatingPoint
from slicewise.inference.prediction import SYNTHETIC_WARNING, Prediction

CSV_NAME: Final = "predictions.csv"
JSON_NAME: Final = "predictions.json"
NOTICE: Final = "Research use only. Not a medical device; not for diagnosis."


@dataclass(frozen=True, slots=True)
class PredictionRow:
    """One case: what was found, by what measure, and where the mask lies; or why there is none.

    Attributes:
        mask: file or folder beside the table.
        tumour_probability: calibrated where `calibrated` is 1, raw where it is 0; a tumour from
            `class_threshold` on.
        note: which task was not trained; what would rest on it is empty.
        error: why the case was not examined; everything from `mask` to `mask_threshold` is empty then.
    """

    case: str
    path: str
    kind: str | None
    modalities: str | None
    mask: str | None
    verdict: str | None
    tumour_probability: float | None
    class_threshold: float | None
    calibrated: bool | None
    volume_ml: float | None
    mask_threshold: float | None
    chosen: str | None
    synthetic: bool
    fingerprint: str
    note: str | None
    error: str | None


def predicted_row(
    prediction: Prediction,
    point: OperatingPoint,
    *,
    mask: str | None,
    modalities: Sequence[str],
    note: str | None,
    **identity: Any,
) -> PredictionRow:
    """Return the row of a case that was examined; `known` is what stands in any row."""
    classified = prediction.verdict is not None
    return PredictionRow(
        mask=mask,
        modalities=" ".join(modalities),
        verdict=prediction.verdict,
        tumour_probability=prediction.tumour_probability,
        class_threshold=point.postprocessing.class_threshold if classified else None,
        calibrated=point.calibrated if classified else None,
        volume_ml=prediction.volume_ml,
        mask_threshold=None if mask is None else point.postprocessing.mask_threshold,
        chosen=point.origin,
        note=note,
        error=None,
        **identity,
    )


def failed_row(error: str, **identity: Any) -> PredictionRow:
    """Return the row of a case that could not be examined."""
    empty = dict.fromkeys(
        ("mask", "modalities", "verdict", "tumour_probability", "class_threshold", "calibrated",
         "volume_ml", "mask_threshold", "chosen", "note")
    )  # fmt: skip
    return PredictionRow(**empty, error=error, **identity)  # type: ignore[arg-type]  # known and empty are all


def write_tables(folder: Path, rows: Sequence[PredictionRow], model: dict[str, Any]) -> None:
    """Write both tables, each atomically."""
    write_rows(folder / CSV_NAME, rows, PredictionRow)
    warning = SYNTHETIC_WARNING if model["synthetic"] else None
    content = {"notice": NOTICE, "warning": warning, **model, "cases": [asdict(row) for row in rows]}
    write_json(folder / JSON_NAME, content)
