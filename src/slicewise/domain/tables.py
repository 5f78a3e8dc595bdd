"""The two tables of an evaluation: one row per slice, one row per patient, joined by key, never by path."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, get_args, get_type_hints

from slicewise.core.errors import WorkspaceError
from slicewise.core.files import write_text
from slicewise.domain.keys import SliceKey
from slicewise.domain.scores import STAGE_DIFFERENCE

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Table = TypeVar("Table", bound="DataclassInstance")


@dataclass(frozen=True, slots=True)
class SliceRow:
    """One slice: what is true, what the network said, and how they agree.

    What needs a mask, a pixel size or a tumour may be None.
    """

    source: str
    patient: str
    case: str
    index: int
    group: str
    """Resampled as one and on one side of the split: the patient, or a family of pictures."""
    asked: bool
    """False where the slice has too little brain: then its answer is "no tumour" by decree."""
    label: int
    probability: float
    predicted: int
    reference_pixels: int | None
    predicted_pixels: int
    common_pixels: int | None
    num_pixels: int
    dice: float | None
    iou: float | None
    precision: float | None
    recall: float | None
    specificity: float | None
    pixel_accuracy: float | None
    mean_accuracy: float | None
    mean_iou: float | None
    boundary_f1: float | None
    nsd: float | None
    hd95_mm: float | None

    @property
    def key(self) -> SliceKey:
        return SliceKey(self.source, self.patient, self.case, self.index)

    @property
    def right(self) -> bool:
        return self.predicted == self.label


@dataclass(frozen=True, slots=True)
class PatientRow:
    """One patient, all slices of all cases pooled: overlap and surfaces are those of the 3-D masks.

    Both are measured on the grid of the prepared slices. Boundary F1 is that of the slices, pooled.
    """

    source: str
    patient: str
    group: str
    num_cases: int
    num_slices: int
    num_tumour_slices: int
    slice_accuracy: float
    top_probability: float
    tumour_probability: float
    """Of the case with the highest; see `imaging.summary`."""
    called: int
    """1 where that probability reaches the class threshold, 0 elsewhere."""
    reference_ml: float | None
    predicted_ml: float | None
    volume_error_ml: float | None
    """Predicted minus reference."""
    relative_volume_error: float | None
    """(predicted - reference) / reference; None without a reference."""
    empty_reference: bool | None
    dice: float | None
    iou: float | None
    precision: float | None
    recall: float | None
    specificity: float | None
    pixel_accuracy: float | None
    mean_accuracy: float | None
    mean_iou: float | None
    boundary_f1: float | None
    nsd: float | None
    hd95_mm: float | None


@dataclass(frozen=True, slots=True)
class SubsetRow:
    """One subset on one source: Dice per patient and slice ROC-AUC with their intervals over patients."""

    source: str
    modalities: str
    num_modalities: int
    t1: bool
    t1ce: bool
    t2: bool
    flair: bool
    num_patients: int
    num_slices: int
    dice: float | None
    dice_low: float | None
    dice_high: float | None
    roc_auc: float | None
    roc_auc_low: float | None
    roc_auc_high: float | None

    @property
    def given(self) -> tuple[bool, bool, bool, bool]:
        return (self.t1, self.t1ce, self.t2, self.flair)


@dataclass(frozen=True, slots=True)
class RecipeRow:
    """One score of one source. The difference is to the first recipe with the same seed, paired by patient.

    Scores named `dice_per_patient: joint - seg_warmup` compare stages of the recipe itself: `value` is then
    that difference, and there is none to the first recipe.
    """

    recipe: str
    seed: int
    source: str
    score: str
    value: float | None
    low: float | None
    high: float | None
    num_patients: int
    difference: float | None
    difference_low: float | None
    difference_high: float | None
    p_value: float | None
    note: str
    condition: str
    """Mask threshold and post-processing, or the class threshold, on which ROC-AUC does not depend."""

    @property
    def of_stages(self) -> bool:
        return STAGE_DIFFERENCE in self.score


class EvaluationTables(Protocol):
    """What figures need of an evaluation."""

    @property
    def slices(self) -> Sequence[SliceRow]: ...
    @property
    def patients(self) -> Sequence[PatientRow]: ...
    @property
    def not_trained(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval. None is "undefined"; `note` says why an interval is missing.

    `num_patients` is the number of units that were resampled: patients, or families of pictures.
    """

    value: float | None
    low: float | None
    high: float | None
    num_patients: int
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return plain numbers: value, interval (or null), num_patients and the note where there is one."""
        interval = None if self.low is None or self.high is None else [self.low, self.high]
        content = {"value": self.value, "interval": interval, "num_patients": self.num_patients}
        return {**content, "note": self.note} if self.note else content


def to_csv(rows: Sequence["DataclassInstance"], kind: type["DataclassInstance"]) -> str:
    """Return the table as RFC 4180 text with a header; None is an empty field, floats have nine digits."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow([field.name for field in fields(kind)])
    table.writerows([[_cell(value) for value in astuple(row)] for row in rows])
    return text.getvalue()


def write_rows(path: Path, rows: Sequence["DataclassInstance"], kind: type["DataclassInstance"]) -> None:
    """Write the table atomically."""
    write_text(path, to_csv(rows, kind))


def read_rows(path: Path, kind: type[Table]) -> list[Table]:
    """Read what `write_rows` wrote; floats come back to nine significant digits.

    Raises:
        WorkspaceError: the table is damaged or has other columns.
    """
    kinds = {name: (get_args(hint) or (hint,))[0] for name, hint in get_type_hints(kind).items()}
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            table = csv.DictReader(stream, strict=True)
            _require_columns(table.fieldnames, kinds)
            return [kind(**{name: _value(kinds[name], text) for name, text in row.items()}) for row in table]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise WorkspaceError(f"{path} cannot be read ({error}); run evaluate again") from error


def by_source(rows: Iterable[Any]) -> dict[str, list[Any]]:
    """Group rows by source, sources in alphabetical order, rows in the order given."""
    groups: dict[str, list[Any]] = {}
    for row in rows:
        groups.setdefault(row.source, []).append(row)
    return dict(sorted(groups.items()))


def plural(number: int, noun: str) -> str:
    """Return `1 patient`, `2 patients`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def describe_groups(number: int, *, pictures: bool, subset: str = "") -> str:
    """Return `16 validation patients`, or `16 families of validation pictures`: what the intervals resample.

    A family is a picture with those that are nearly identical to it; whose pictures they are is not known.
    """
    noun = f"{subset} patient".lstrip()
    if not pictures:
        return plural(number, noun)
    families = "family" if number == 1 else "families"
    return f"{number:,} {families} of {subset} pictures".replace("  ", " ")


def describe_class_threshold(decision: Mapping[str, Any]) -> str:
    """Return with which threshold slices were called tumour, from a decision as JSON holds it."""
    scaled = (decision["temperature"], decision["shift"]) != (1, 0)
    return f"class threshold {decision['class_threshold']:.3g}" + (", calibrated" if scaled else "")


def describe_mask_threshold(decision: Mapping[str, Any]) -> str:
    """Return from which threshold on a pixel was tumour, and which parts of a mask were removed."""
    parts = [f"mask threshold {decision['mask_threshold']:.3g}"]
    if decision["component_share"]:
        parts.append(f"parts from {decision['component_share']:.0%} of the largest")
    if decision["min_component"]:
        parts.append(f"parts from {decision['min_component']} voxels")
    if decision["gate"]:
        parts.append("none in slices not called tumour")
    return ", ".join(parts)


def resampling_unit(found: Mapping[str, Any]) -> str:
    """Return what the intervals of a source resample; `found` is its part of `metrics.json`."""
    return "families" if found["num_patients"] == found["num_slices"] else "patients"


def describe_counts(num_patients: int, num_slices: int) -> str:
    """Say who stands behind a score; where every patient is one slice, they are pictures."""
    if num_patients == num_slices:
        return plural(num_slices, "picture")
    return f"{plural(num_patients, 'patient')}, {plural(num_slices, 'slice')}"


def _require_columns(found: Sequence[str] | None, expected: Iterable[str]) -> None:
    if list(found or ()) != list(expected):
        raise ValueError("it has other columns than this version writes")


def _value(kind: type, text: str) -> Any:
    if not text:
        return None
    return bool(int(text)) if kind is bool else kind(text)


def _cell(value: object) -> object:
    """Return a value as it is written.

    Nine significant digits tell any two float32 apart: with fixed decimals the probabilities of a sure
    network become ties, and an AUC recomputed from the table is another one.
    """
    if isinstance(value, float):
        return f"{value:.9g}"
    return int(value) if isinstance(value, bool) else value
