"""The tables of all predictions: predictions.csv for people, predictions.json for programs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from slicewise.core.files import write_json
from slicewise.domain.tables import write_rows
from slicewise.inference.prediction import SYNTHETIC_WARNING

CSV_NAME: Final = "predictions.csv"
JSON_NAME: Final = "predictions.json"
NOTICE: Final = "Research use only. Not a medical device; not for diagnosis."


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionRow:
    """One case: its prediction, the thresholds, and where the mask is; or the error.

    Attributes:
        mask: file or folder beside the table.
        tumour_probability: calibrated where `calibrated` is 1, raw where it is 0; the verdict is a tumour
            from `class_threshold` on.
        note: tasks that were not trained, whose columns are empty, and warnings about the files.
        error: why there is no prediction; the columns of one are empty then.
    """

    case: str
    path: str
    kind: str | None
    modalities: str | None = None
    mask: str | None = None
    verdict: str | None = None
    tumour_probability: float | None = None
    class_threshold: float | None = None
    calibrated: bool | None = None
    volume_ml: float | None = None
    mask_threshold: float | None = None
    chosen: str | None = None
    synthetic: bool
    fingerprint: str
    note: str | None = None
    error: str | None = None


def write_tables(folder: Path, rows: Sequence[PredictionRow], model: dict[str, Any]) -> None:
    """Write both tables, each atomically."""
    write_rows(folder / CSV_NAME, rows, PredictionRow)
    warning = SYNTHETIC_WARNING if model["synthetic"] else None
    content = {"notice": NOTICE, "warning": warning, **model, "cases": [asdict(row) for row in rows]}
    write_json(folder / JSON_NAME, content)
