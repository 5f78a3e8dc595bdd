"""Rows of the tables that evaluations write as CSV, how they are read and written, and wording of counts."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, get_args, get_type_hints

from slicewise.core.errors import WorkspaceError
from slicewise.core.files import write_text
from slicewise.domain.keys import SliceKey

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from slicewise.domain.classes import Classes

Table = TypeVar("Table", bound="DataclassInstance")
Scores = Mapping[str, float | None]
"""Metrics by name; None is undefined."""
_SCORES = "scores"
"""The field whose entries are columns."""
PROBABILITY: Final = "probability_"
"""Begins the names of the scores that are the probabilities of several classes of a slice."""


@dataclass(frozen=True, slots=True)
class SliceRow:
    """One slice: label, prediction and scores. What needs a mask may be None."""

    source: str
    patient: str
    case: str
    index: int
    group: str
    """Resampled and split as one: the patient, or a family of near-identical pictures."""
    asked: bool
    """False for an excluded slice (too little brain), which is assigned probability 0."""
    label: int
    """Number of its class: 1 tumour, 0 none; or that of one of several classes"""
    probability: float
    """Of tumour; of several classes that of the predicted one"""
    predicted: int
    """Number of the predicted class"""
    uncertain: bool
    """Whether the probability is within `evaluation.uncertain_band` of the threshold"""
    reference_pixels: int | None
    predicted_pixels: int
    common_pixels: int | None
    num_pixels: int
    scores: Scores
    """The metrics of its masks by name, see `metrics.table`, and `probability_<class>` of each of several
    classes; a column each in the CSV"""

    @property
    def class_probabilities(self) -> list[float]:
        """The probabilities of several classes, in order; empty where there is only tumour or not."""
        named = self.scores.items()
        return [value or 0.0 for name, value in named if name.startswith(PROBABILITY)]

    @property
    def key(self) -> SliceKey:
        return SliceKey(self.source, self.patient, self.case, self.index)

    @property
    def right(self) -> bool:
        return self.predicted == self.label

    @property
    def dice(self) -> float | None:
        return self.scores.get("dice")


@dataclass(frozen=True, slots=True)
class PatientRow:
    """One patient, slices of all cases pooled: the scores are those of the 3-D masks on the prepared grid."""

    source: str
    patient: str
    group: str
    num_cases: int
    num_slices: int
    num_tumour_slices: int
    slice_accuracy: float
    top_probability: float
    tumour_probability: float
    """Of the case with the highest, see `inference.postprocess`; of several classes that of the predicted."""
    called: int
    """1 where that probability reaches the class threshold, else 0; of several classes the number of one."""
    uncertain: bool
    """Whether that probability is within `evaluation.uncertain_band` of the threshold"""
    reference_ml: float | None
    predicted_ml: float | None
    empty_reference: bool | None
    scores: Scores
    """The metrics of its masks by name, see `metrics.table`; a column each in the CSV"""

    @property
    def dice(self) -> float | None:
        return self.scores.get("dice")


@dataclass(frozen=True, slots=True)
class ComparisonRow:
    """A score of one variant (stage, recipe, run, fold, subset of modalities) on one source.

    With `minus` it is the paired difference to that other variant. A task that the variant was not trained
    for has a note and no value.
    """

    source: str
    score: str
    """Its key in `metrics.json`"""
    variant: str
    minus: str
    seed: int
    value: float | None
    low: float | None
    high: float | None
    num_patients: int
    """Number of resampled units: patients, or families of pictures"""
    num_slices: int
    p_value: float | None
    """Of a difference of a score per patient: Wilcoxon's signed-rank test"""
    note: str
    condition: str
    """The threshold behind a score that depends on one"""
    median: float | None = None
    """Of the scores per patient whose mean `value` is"""

    @property
    def name(self) -> str:
        return f"{self.variant} - {self.minus}" if self.minus else self.variant

    @property
    def value_text(self) -> str:
        return "–" if self.value is None else f"{self.value:{'+' if self.minus else ''}.3f}"

    @property
    def median_text(self) -> str:
        return "–" if self.median is None else f"{self.median:.3f}"

    @property
    def interval_text(self) -> str:
        if self.low is None or self.high is None:
            return "–"
        sign = "+" if self.minus else ""
        return f"{self.low:{sign}.3f} to {self.high:{sign}.3f}"


@dataclass(frozen=True, slots=True)
class FailedSlice(SliceRow):
    """One slice that failed, and how."""

    kind: str


@dataclass(frozen=True, slots=True)
class TraitRow:
    """One trait of the failures compared with the same trait of the rest.

    `effect` is Cliff's delta (1993), P(failed > rest) - P(failed < rest), from -1 to 1. For a yes-or-no trait
    it is the difference of the two shares.
    """

    level: str
    source: str
    trait: str
    num_failed: int
    num_rest: int
    failed: float
    """Median; of a yes-or-no trait the share."""
    rest: float
    effect: float
    strength: str
    """After Romano et al. 2006; `too few` with fewer than five failures or fewer than five others."""


MOST_PROBABLE: Final = "most probable class"
"""How one of several classes is predicted"""


class EvaluationTables(Protocol):
    """The tables of an evaluation, as figures take them."""

    @property
    def slices(self) -> Sequence[SliceRow]: ...
    @property
    def patients(self) -> Sequence[PatientRow]: ...
    @property
    def tasks(self) -> Sequence[str]: ...
    @property
    def classes(self) -> "Classes": ...
    @property
    def cells(self) -> Mapping[SliceKey, Any]: ...
    @property
    def slice_classes(self) -> "Classes": ...


@dataclass(frozen=True)
class Estimate:
    """A score with its interval. None is "undefined"; `note` says why an interval is missing.

    `num_patients` is the number of resampled units: patients, or families of pictures.
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
    """Return the table as RFC 4180 text with a header; None is an empty field, floats have nine digits.

    The field `scores` is a column per score of any row; they are the last columns.
    """
    names = [field.name for field in fields(kind)]
    scores = [*dict.fromkeys(name for row in rows for name in getattr(row, _SCORES, ()))]
    plain = [name for name in names if name != _SCORES]
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*plain, *scores])
    for row in rows:
        values = [getattr(row, name) for name in plain]
        table.writerow(
            [_cell(value) for value in (*values, *(getattr(row, _SCORES).get(name) for name in scores))]
        )
    return text.getvalue()


def write_rows(path: Path, rows: Sequence["DataclassInstance"], kind: type["DataclassInstance"]) -> None:
    """Write the table atomically."""
    write_text(path, to_csv(rows, kind))


def read_rows(path: Path, kind: type[Table]) -> list[Table]:
    """Return the rows that `write_rows` wrote, floats to nine significant digits.

    Raises:
        WorkspaceError: the table is damaged or has other columns.
    """
    hints = get_type_hints(kind)
    kinds = {name: (get_args(hint) or (hint,))[0] for name, hint in hints.items()}
    scored = kinds.pop(_SCORES, None) is not None
    convert: dict[str, Callable[[str], Any]] = {
        name: (lambda text: bool(int(text))) if column is bool else column for name, column in kinds.items()
    }
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            table = csv.DictReader(stream, strict=True)
            lines, columns = list(table), table.fieldnames or ()
        if list(columns[: len(kinds)]) == list(kinds) and (scored or len(columns) == len(kinds)):
            rows = []
            for line in lines:
                values: dict[str, Any] = {
                    name: convert.get(name, float)(text)
                    if text or (text == "" and hints.get(name) is str)
                    else None
                    for name, text in line.items()
                }  # an empty cell is an empty text where the column cannot be None
                content: dict[str, Any] = {name: values.pop(name) for name in kinds}
                rows.append(kind(**content, **({_SCORES: values} if scored else {})))
            return rows
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise WorkspaceError(f"{path} cannot be read ({error}); run evaluate again") from error
    raise WorkspaceError(f"{path} has other columns than this version writes; run evaluate again")


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
    """Return `16 validation patients`, or `16 families of validation pictures`: the resampled units.

    A family is a picture with those that are nearly identical to it; pictures name no patient.
    """
    noun = f"{subset} patient".lstrip()
    if not pictures:
        return plural(number, noun)
    families = "family" if number == 1 else "families"
    return f"{number:,} {families} of {subset} pictures".replace("  ", " ")


def describe_class_threshold(decision: Mapping[str, Any]) -> str:
    """Return the class threshold in words; `decision` is an entry of `decisions` in `metrics.json`."""
    scaled = (decision["temperature"], decision["shift"]) != (1, 0)
    threshold = decision["class_threshold"]
    how = MOST_PROBABLE if threshold is None else f"class threshold {threshold:.3g}"
    return how + (", calibrated" if scaled else "")


def describe_mask_threshold(decision: Mapping[str, Any]) -> str:
    """Return the mask threshold and the post-processing of masks in words; `decision` as above.

    Of several classes that have their own it is the threshold of each; classes that exclude each other have
    none: the most probable one is predicted.
    """
    if rules := decision.get("by_class"):
        each = (f"{rule['mask_threshold']:.3g} for {name.replace('_', ' ')}" for name, rule in rules.items())
        return f"mask threshold {', '.join(each)}"
    threshold = decision["mask_threshold"]
    parts = [MOST_PROBABLE if threshold is None else f"mask threshold {threshold:.3g}"]
    if decision["component_share"]:
        parts.append(f"parts from {decision['component_share']:.0%} of the largest")
    if decision["min_component"]:
        parts.append(f"parts from {decision['min_component']} voxels")
    if decision["gate"]:
        parts.append("none in slices not called tumour")
    return ", ".join(parts)


def resampling_unit(scores: Mapping[str, Any]) -> str:
    """Return what the intervals of a source resample; `scores` is its part of `metrics.json`."""
    return "families" if scores["num_patients"] == scores["num_slices"] else "patients"


def describe_counts(num_patients: int, num_slices: int) -> str:
    """Return `3 patients, 24 slices`, or `12 pictures` where every patient is one slice."""
    if num_patients == num_slices:
        return plural(num_slices, "picture")
    return f"{plural(num_patients, 'patient')}, {plural(num_slices, 'slice')}"


def _cell(value: object) -> object:
    """Return a value as it is written: nine significant digits, which distinguish any two float32.

    With fixed decimals probabilities near 0 and 1 become ties, and an AUC computed from the table differs.
    """
    if isinstance(value, float):
        return f"{value:.9g}"
    return int(value) if isinstance(value, bool) else value
