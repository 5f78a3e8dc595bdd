"""The table of metrics: what is computed, written, compared, reported and documented, a row each.

Another package adds a row by an entry point of the group `slicewise.metrics` that names its `Metric`.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from slicewise.core.errors import ConfigError
from slicewise.core.registry import Registry
from slicewise.domain.classes import Classes
from slicewise.domain.tables import PatientRow, Scores, SliceRow
from slicewise.metrics import confusion, surface_distance
from slicewise.metrics.confusion import Confusion, Counts, Floats, Overlap
from slicewise.metrics.lesions import Lesions, pooled_hd95
from slicewise.metrics.surface_distance import SurfaceDistances

Level = Literal["slice", "patient", "pooled"]


@dataclass(frozen=True)
class MaskPairs(Overlap):
    """Reference and predicted masks of P slices, or all masks of one patient (P = 1), as numbers [P]."""

    contours: Sequence[SurfaceDistances] | None = None
    """[P] contours in the slices, in pixels; None where they were not measured"""
    surfaces: Sequence[SurfaceDistances] | None = None
    """[P] in mm: a slice's contour, a patient's surfaces in 3-D; None also where no pixel size is known"""
    side: int = 0
    """Pixels along the side of a slice"""
    nsd_tolerance_mm: float = 0.0
    reference_ml: float = np.nan
    """Of a patient, as `predicted_ml`; NaN where no voxel size is known"""
    predicted_ml: float = np.nan
    lesions: Lesions | None = None
    """Of a patient; None where they were not found, or no voxel size is known"""
    same_voxels: bool = True
    """Whether all masks have voxels of one size, so that counts compare as volumes"""


@dataclass(frozen=True)
class Predictions:
    """Labels, predicted classes and probabilities [row] of a source's slices, or of its patients.

    Of several classes the probabilities are [row, class].
    """

    labels: Floats
    predicted: Floats
    probabilities: Floats

    def confusion(self, weights: Floats | None = None) -> Confusion:
        return confusion.count_confusion(self.labels, self.predicted, weights)

    @property
    def num_several(self) -> int:
        """Number of classes; 0 where there is only tumour or not."""
        return 0 if self.probabilities.ndim == 1 else self.probabilities.shape[1]

    def one_against_others(self, number: int) -> "Predictions":
        """Return the predictions of one of several classes, of which the others are the absence."""
        labels, predicted = ((each == number).astype(np.float64) for each in (self.labels, self.predicted))
        return Predictions(labels, predicted, self.probabilities[:, number])

    def cells(self, weights: Floats | None = None) -> Floats:
        """Return the confusion matrices [..., C, C] of several classes; `weights` are [..., row]."""
        pairs = (self.labels * self.num_several + self.predicted).astype(np.intp)
        counts = np.ones(len(pairs)) if weights is None else weights
        cells = counts @ np.eye(self.num_several**2)[pairs]
        return np.asarray(cells.reshape(*counts.shape[:-1], self.num_several, self.num_several))


@dataclass(frozen=True)
class Metric:
    """A row of the table."""

    name: str
    """The key in tables and JSON"""
    label: str
    definition: str
    """The formula and its source"""
    level: Level
    """`slice`: of the masks of each slice, and of each patient's slices together; `patient`: of a patient's
    masks only; both are averaged over those that have a value. `pooled`: of the classes of all slices of a
    source, and of all its patients"""
    better: Literal["higher", "lower", "zero"]
    compute: Callable[..., Floats]
    """`MaskPairs` -> values [P]; of a pooled metric `Predictions`, weights [resample, row] -> values
    [resample]. NaN is undefined"""
    undefined: str
    """What it is, and where it has no value, when masks are empty or a class is absent"""
    unit: str = ""
    headline: bool = False
    """Whether summaries show it and stages are compared by it"""
    uses_threshold: bool = True
    """Whether it changes with the mask or class threshold"""
    of_cells: Callable[[Counts | Floats], Floats] | None = None
    """Of several classes that exclude each other, from their confusion matrices [P, C, C], of masks with the
    background; None: the mean over the classes, of slices each against the others"""

    def __post_init__(self) -> None:
        columns = {field.name for kind in (SliceRow, PatientRow) for field in fields(kind)}
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name) or "_per_" in self.name or self.name in columns:
            raise ValueError(f"{self.name!r} cannot name a metric: a word_of_small_letters, no other column")

    def of_masks(self, pairs: MaskPairs) -> Floats:
        """Return the values [P].

        Raises:
            ConfigError: `compute` gave another number of values.
        """
        values = np.asarray(self.compute(pairs), np.float64)
        if values.shape != pairs.total.shape:
            raise ConfigError(
                f"metric {self.name}: compute returned shape {values.shape} for {pairs.total.shape} masks; "
                "return one value per pair of masks, NaN where undefined"
            )
        return np.where(np.isfinite(values), values, np.nan)

    def of_predictions(self, predictions: Predictions, weights: Floats | None = None) -> Floats:
        """Return a pooled metric [resample] from weights [resample, row].

        Of several classes it is the mean over those where it is defined (macro), or `of_cells`.
        """
        if not predictions.num_several:
            return self.compute(predictions, weights)
        if self.of_cells is not None:
            return self.of_cells(predictions.cells(weights))
        numbers = range(predictions.num_several)
        values = [self.compute(predictions.one_against_others(number), weights) for number in numbers]
        return confusion.ratio(np.nansum(values, axis=0), np.isfinite(values).sum(axis=0))


METRICS: Registry[Metric] = Registry("metrics", {})


def metrics_of(*levels: Level) -> list[Metric]:
    """Return the metrics of some levels in the order of the table, those of other packages last."""
    return [metric for name in METRICS.names() if (metric := METRICS[name]).level in levels]


def headline_metrics() -> list[Metric]:
    return [metric for metric in metrics_of("slice", "patient", "pooled") if metric.headline]


def score_key(metric: Metric) -> str:
    """Return the key of a metric in a section of `metrics.json`: `dice_per_patient`, `roc_auc`."""
    return metric.name if metric.level == "pooled" else f"{metric.name}_per_patient"


def score_label(key: str) -> str:
    """Return the printed name of a key of `metrics.json`: HD95 per patient, mm for `hd95_mm_per_patient`."""
    name, per, what = key.partition("_per_")
    if name not in METRICS:  # of a package that is not installed here
        return key.replace("_", " ")
    metric = METRICS[name]
    unit = f", {metric.unit}" if metric.unit else ""
    return f"{metric.label}{per.replace('_', ' ')}{what.replace('_', ' ')}{unit}"


def describe_undefined(names: Collection[str]) -> str:
    """Return what the metrics of masks of these names are where masks are empty, in words."""
    rules: dict[str, list[str]] = {}
    for metric in metrics_of("slice", "patient"):
        if metric.name not in names:
            continue
        rules.setdefault(metric.undefined, []).append(metric.label)
    parts = [f"{', '.join(labels)}: {rule}." for rule, labels in rules.items()]
    return (
        f"{' '.join(parts)} Undefined values are left out of means; the number of empty references is given."
    )


def _each(
    parts: Sequence[SurfaceDistances] | None, pairs: MaskPairs, score: Callable[[SurfaceDistances], Any]
) -> Floats:
    """Return a score of the borders of each pair; NaN where they were not measured."""
    values = [np.nan] * len(pairs.total) if parts is None else [score(part) for part in parts]
    return np.array(values, np.float64)


def _volume_error(pairs: MaskPairs) -> Floats:
    return np.array([pairs.predicted_ml - pairs.reference_ml])


def _relative_volume_error(pairs: MaskPairs) -> Floats:
    predicted: NDArray[Any] = np.array([pairs.predicted_ml])
    reference: NDArray[Any] = np.array([pairs.reference_ml])
    if np.isnan(reference) and pairs.same_voxels:
        predicted, reference = pairs.predicted, pairs.reference
    return confusion.ratio(predicted, np.where(pairs.reference == 0, 0, reference)) - 1


def _of_lesions(score: Callable[[Lesions], float]) -> Callable[[MaskPairs], Floats]:
    return lambda pairs: np.array([np.nan if pairs.lesions is None else score(pairs.lesions)])


def _of_confusion(score: Callable[[Confusion], Floats]) -> Callable[[Predictions, Floats | None], Floats]:
    return lambda predictions, weights: score(predictions.confusion(weights))


_OVERLAP = "1 where both masks are empty, 0 where only one is"
_COUNTED = "1 where both masks are empty, else as counted"
_BOTH_CLASSES = "undefined unless both classes are present"
_NO_REFERENCE = "undefined where the reference is empty"
_NO_SIZE = "undefined where the files give no voxel size"
_LESIONS = f"0 where no lesion is paired, undefined where both masks are empty; {_NO_SIZE}"

for _metric in (
    Metric("dice", "Dice", "2|A∩B| / (|A| + |B|), of pixels the same as F1 (Dice 1945)", "slice", "higher",
           confusion.dice_score, _OVERLAP, headline=True),
    Metric("iou", "IoU", "|A∩B| / |A∪B| (Jaccard 1901)", "slice", "higher", confusion.iou_score, _OVERLAP),
    Metric("precision", "precision", "|A∩B| / |B|, B the prediction (van Rijsbergen 1979)", "slice",
           "higher", confusion.precision,
           "1 where both masks are empty, 0 where the reference is, undefined where the prediction is"),
    Metric("recall", "recall", "|A∩B| / |A|, A the reference (van Rijsbergen 1979)", "slice", "higher",
           confusion.recall,
           "1 where both masks are empty, 0 where the prediction is, undefined where the reference is"),
    Metric("pixel_specificity", "pixel specificity", "share of the pixels without tumour that are predicted "
           "as such (Yerushalmy 1947)", "slice", "higher", confusion.pixel_specificity,
           "undefined where the reference fills the slice"),
    Metric("pixel_accuracy", "pixel accuracy", "share of correct pixels (Long et al. 2015)", "slice",
           "higher", confusion.pixel_accuracy, _COUNTED, of_cells=confusion.class_accuracy),
    Metric("mean_accuracy", "mean accuracy", "share of correct pixels per class, mean over the classes of "
           "the reference (Long et al. 2015)", "slice", "higher", confusion.mean_accuracy, _COUNTED,
           of_cells=confusion.class_mean_accuracy),
    Metric("mean_iou", "mean IoU", "IoU, mean over tumour and background (Everingham et al. 2010)", "slice",
           "higher", confusion.mean_iou, _COUNTED, of_cells=confusion.class_mean_iou),
    Metric("boundary_f1", "boundary F1", "F1 of border precision and recall within 0.75 % of the slice's "
           "diagonal (Csurka et al. 2013)", "slice", "higher",
           lambda pairs: _each(pairs.contours, pairs, lambda part: surface_distance.boundary_f1(
               part, surface_distance.boundary_tolerance(pairs.side))), _OVERLAP),
    Metric("nsd", "NSD", "share of both borders within `evaluation.nsd_tolerance_mm` of the other one "
           "(Nikolov et al. 2021)", "slice", "higher",
           lambda pairs: _each(pairs.surfaces, pairs, lambda part: surface_distance.surface_dice(
               part, pairs.nsd_tolerance_mm)), f"{_OVERLAP}; {_NO_SIZE}"),
    Metric("hd95_mm", "HD95", "95th percentile of the border distances, the larger of both directions "
           "(Huttenlocher et al. 1993, as in BraTS)", "slice", "lower",
           lambda pairs: _each(pairs.surfaces, pairs, surface_distance.hd95),
           f"undefined where a mask is empty; {_NO_SIZE}", "mm"),
    Metric("brats_hd95_mm", "HD95 as in BraTS", "95th percentile of the border distances, both directions "
           "together (brats-evaluation 0.0.10)", "patient", "lower",
           lambda pairs: np.where(pairs.common, _each(pairs.surfaces, pairs, pooled_hd95), np.nan),
           f"undefined where no voxel is in both masks; {_NO_SIZE}", "mm"),
    Metric("lesion_dice", "lesion-wise Dice", "mean Dice of the lesions of the reference and those of the "
           "prediction that are paired with them (brats-evaluation 0.0.10)", "patient", "higher",
           _of_lesions(lambda lesions: lesions.mean_dice), _LESIONS),
    Metric("lesion_hd95_mm", "lesion-wise HD95", "mean of `brats_hd95_mm` of these pairs (brats-evaluation "
           "0.0.10)", "patient", "lower", _of_lesions(lambda lesions: lesions.mean_hd95_mm),
           f"undefined where no lesion is paired; {_NO_SIZE}", "mm"),
    Metric("lesion_f1", "lesion F1", "2 pairs / (lesions of the reference + those of the prediction) "
           "(brats-evaluation 0.0.10)", "patient", "higher", _of_lesions(lambda lesions: lesions.f1),
           _LESIONS),
    Metric("volume_error_ml", "volume error", "predicted minus reference volume", "patient", "zero",
           _volume_error, _NO_SIZE, "ml"),
    Metric("absolute_volume_error_ml", "absolute volume error", "size of the volume error", "patient",
           "lower", lambda pairs: np.abs(_volume_error(pairs)), _NO_SIZE, "ml"),
    Metric("relative_volume_error", "relative volume error", "volume error / reference volume", "patient",
           "zero", _relative_volume_error, _NO_REFERENCE),
    Metric("absolute_relative_volume_error", "absolute relative volume error", "size of the relative volume "
           "error", "patient", "lower", lambda pairs: np.abs(_relative_volume_error(pairs)), _NO_REFERENCE),
    Metric("roc_auc", "ROC-AUC", "P(tumour scores higher) + P(equal) / 2 (Mann and Whitney 1947)", "pooled",
           "higher", lambda p, weights: confusion.roc_auc(p.labels, p.probabilities, weights), _BOTH_CLASSES,
           headline=True, uses_threshold=False),
    Metric("pr_auc", "PR-AUC", "average precision (Davis and Goadrich 2006)", "pooled", "higher",
           lambda p, weights: confusion.average_precision(p.labels, p.probabilities, weights),
           _BOTH_CLASSES, uses_threshold=False),
    Metric("accuracy", "accuracy", "share of correct classes", "pooled", "higher",
           _of_confusion(confusion.accuracy), "undefined without rows", headline=True,
           of_cells=confusion.class_accuracy),
    Metric("balanced_accuracy", "balanced accuracy", "mean of sensitivity and specificity; of several "
           "classes the share that is predicted right, mean over the classes", "pooled", "higher",
           _of_confusion(confusion.balanced_accuracy), _BOTH_CLASSES, headline=True,
           of_cells=confusion.class_mean_accuracy),
    Metric("sensitivity", "sensitivity", "share of those with tumour that are predicted so", "pooled",
           "higher", _of_confusion(confusion.sensitivity), "undefined without any with tumour"),
    Metric("specificity", "specificity", "share of those without tumour that are predicted so", "pooled",
           "higher", _of_confusion(confusion.specificity), "undefined without any without tumour"),
    Metric("ppv", "PPV (precision)", "share of those predicted as tumour that have one", "pooled", "higher",
           _of_confusion(confusion.ppv), "undefined where none is predicted"),
    Metric("f1", "F1", "harmonic mean of precision and sensitivity (van Rijsbergen 1979)", "pooled",
           "higher", _of_confusion(confusion.f1), "undefined where no tumour is present or predicted"),
    Metric("mcc", "MCC", "correlation of labels and predictions (Matthews 1975), 0 for a constant prediction",
           "pooled", "higher", _of_confusion(confusion.mcc), _BOTH_CLASSES, of_cells=confusion.class_mcc),
):  # fmt: skip
    METRICS.register(_metric.name, _metric)


def mask_scores(
    pairs: Sequence[MaskPairs],
    cells: NDArray[np.int64] | None,
    classes: Classes,
    num_pairs: int,
    *levels: Level,
) -> list[Scores]:
    """Return the metrics of each pair of masks; all None without masks.

    Of several classes it is the mean over those where it is defined, or what their confusion matrices `cells`
    give, and beside it `<metric>_<class>`.
    """
    columns = {}
    for metric in metrics_of(*levels):
        values = [metric.of_masks(each) for each in pairs] or [np.full(num_pairs, np.nan)] * len(classes)
        columns[metric.name] = values[0]
        if classes.several:
            defined = np.isfinite(values).sum(axis=0)
            mean = confusion.ratio(np.nansum(values, axis=0), defined)
            columns[metric.name] = mean if cells is None or not metric.of_cells else metric.of_cells(cells)
        # Not strict: one class alone has values and no name.
        columns |= {f"{metric.name}_{name}": own for name, own in zip(classes.several, values, strict=False)}
    return [
        {name: float(value[place]) if np.isfinite(value[place]) else None for name, value in columns.items()}
        for place in range(num_pairs)
    ]


def to_markdown() -> str:
    """Return the table for the documentation."""
    levels: Mapping[Level, str] = {
        "slice": "slice, patient",
        "patient": "patient",
        "pooled": "source: slices, patients",
    }
    lines = ["| metric | name | per | definition | better | empty masks, absent classes |"]
    lines += ["|---|---|---|---|---|---|"]
    for metric in metrics_of("slice", "patient", "pooled"):
        label = f"{metric.label}, {metric.unit}" if metric.unit else metric.label
        definition = metric.definition.replace("|", "&#124;")
        lines.append(
            f"| `{metric.name}` | {label} | {levels[metric.level]} | {definition} | {metric.better} | "
            f"{metric.undefined} |"
        )
    return "\n".join(lines) + "\n"
