"""The two tables of an evaluation: one row per slice, one row per patient, joined by key, never by path."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicewise.core.files import write_text
from slicewise.core.keys import SliceKey

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True, slots=True)
class SliceRow:
    """One slice: what is true, what the network said, and how they agree. What needs a mask may be None."""

    source: str
    patient: str
    case: str
    index: int
    label: int
    probability: float
    predicted: int
    reference_pixels: int | None
    predicted_pixels: int
    common_pixels: int | None
    dice: float | None
    iou: float | None

    @property
    def key(self) -> SliceKey:
        return SliceKey(self.source, self.patient, self.case, self.index)

    @property
    def right(self) -> bool:
        return self.predicted == self.label


@dataclass(frozen=True, slots=True)
class PatientRow:
    """One patient, all slices of all cases pooled: the overlap is that of the 3-D masks on the slice grid."""

    source: str
    patient: str
    num_cases: int
    num_slices: int
    num_tumour_slices: int
    slice_accuracy: float
    top_probability: float
    reference_ml: float | None
    predicted_ml: float | None
    empty_reference: bool | None
    dice: float | None
    iou: float | None


def to_csv(rows: Sequence["DataclassInstance"], kind: type["DataclassInstance"]) -> str:
    """Return the table as RFC 4180 text with a header; None is an empty field, floats have six decimals."""
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow([field.name for field in fields(kind)])
    table.writerows([[_cell(value) for value in astuple(row)] for row in rows])
    return text.getvalue()


def write_rows(path: Path, rows: Sequence["DataclassInstance"], kind: type["DataclassInstance"]) -> None:
    """Write the table atomically."""
    write_text(path, to_csv(rows, kind))


def by_source(rows: Iterable[Any]) -> dict[str, list[Any]]:
    """Group rows by source, sources in alphabetical order, rows in the order given."""
    groups: dict[str, list[Any]] = {}
    for row in rows:
        groups.setdefault(row.source, []).append(row)
    return dict(sorted(groups.items()))


def plural(number: int, noun: str) -> str:
    """Return `1 patient`, `2 patients`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def population(num_patients: int, num_slices: int) -> str:
    """Say who stands behind a score; where every patient is one slice, they are pictures."""
    if num_patients == num_slices:
        return plural(num_slices, "picture")
    return f"{plural(num_patients, 'patient')}, {plural(num_slices, 'slice')}"


def _cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.6f}"
    return int(value) if isinstance(value, bool) else value
