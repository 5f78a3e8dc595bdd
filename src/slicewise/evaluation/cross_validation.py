"""The folds of a cross-validation pooled: each patient is tested once, by the model that held it out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from slicewise.config.schema import Evaluation
from slicewise.core.errors import DataError
from slicewise.core.files import write_text
from slicewise.domain.classes import TUMOUR, TUMOUR_OR_NOT, Classes
from slicewise.domain.labels import CLASSIFICATION, TASKS
from slicewise.domain.tables import PROBABILITY, SliceRow, by_source, plural
from slicewise.evaluation.comparison import compare, write_comparison
from slicewise.evaluation.comparison import to_text as comparison_text
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.report import to_text, write_tables
from slicewise.evaluation.runs import Run
from slicewise.evaluation.slice_probabilities import SliceProbabilities
from slicewise.evaluation.statistics import MIN_PATIENTS, BootstrapSettings, Floats
from slicewise.evaluation.summary import summarise
from slicewise.inference.calibration import Scaling, calibration_metrics, fit_scaling, log_likelihood
from slicewise.metrics.confusion import PixelCounts


@dataclass(frozen=True)
class FoldPredictions:
    """The predicted test slices of one source in one fold, and how the fold calibrated them."""

    number: int
    rows: tuple[SliceRow, ...]
    scaling: Scaling

    @property
    def raw(self) -> Floats:
        """The probabilities before calibration."""
        return self.scaling.undo(self.reported)

    @property
    def reported(self) -> list[Any]:
        """The probability of each row, or of several classes those of all."""
        return [row.class_probabilities or row.probability for row in self.rows]


def pool_folds(folds: Sequence[Run], settings: Evaluation, seed: int) -> EvaluationResult:
    """Return the tables of all folds as one result.

    Raises:
        DataError: a patient is in the test subset of two folds.
    """
    tested_in: dict[tuple[str, str], str] = {}
    for fold in (run.variant for run in folds):
        for group in {(row.source, row.group) for row in fold.slices}:
            if group in tested_in:
                raise DataError(
                    f"{'/'.join(group)} is tested in {tested_in[group]} and in {fold.name}; "
                    "run again with --force split"
                )
            tested_in[group] = fold.name
    slices = sorted((row for run in folds for row in run.variant.slices), key=lambda row: row.key)
    patients = [row for run in folds for row in run.variant.patients]
    patients.sort(key=lambda row: (row.source, row.patient))
    tasks = tuple(folds[0].metrics["tasks"]) if folds else TASKS
    classes, slice_classes, pixels = TUMOUR, TUMOUR_OR_NOT, dict[str, PixelCounts]()
    for run in folds:
        classes = Classes.from_json(run.metrics.get("classes")) or classes
        slice_classes = Classes.from_json(run.metrics.get("slice_classes")) or slice_classes
        for source, entry in run.metrics["sources"].items():
            if counts := (entry["segmentation"] or {}).get("all_pixels"):
                own = PixelCounts.from_json(counts)
                pixels[source] = pixels[source] + own if source in pixels else own
    tables = (tuple(slices), tuple(patients))
    return EvaluationResult(*tables, settings, seed, tasks, classes, pixels, slice_classes=slice_classes)


def write_pooled(
    folder: Path,
    folds: Sequence[Run],
    result: EvaluationResult,
    *,
    data_name: str,
    stage: str,
    synthetic: bool,
) -> dict[str, Any]:
    """Write the report on all folds, with a table of the folds; return the metrics."""
    stage = f"{stage}, out of {len(folds)} folds"
    metrics = {"data": data_name, "synthetic": synthetic, "stage": stage, **summarise(result)}
    metrics["calibration"] = _calibration(result, folds)
    # The thresholds of each fold are its own: they are no condition of the whole row.
    variants = [replace(run.variant, absent=result.absent, seed=result.seed, decisions={}) for run in folds]
    rows = compare(variants, result.bootstrap, paired=False)
    title = "Folds, each with test patients of its own"
    write_comparison(folder, "folds", rows, title, variants, synthetic=synthetic)
    write_tables(folder, result, metrics, pooled=True)
    lines = [to_text(metrics), *_calibration_lines(metrics["calibration"]), "", *comparison_text(rows)]
    write_text(folder / "report.txt", "\n".join(lines) + "\n")
    return metrics


def _calibration(result: EvaluationResult, folds: Sequence[Run]) -> dict[str, dict[str, Any]]:
    """Return the calibration scores of each source.

    Of the probabilities as each fold reported them and, where some are not calibrated, across the folds.
    """
    if CLASSIFICATION not in result.tasks:
        return {}
    scores: dict[str, dict[str, Any]] = {}
    for source, rows in by_source(result.slices).items():
        figures = calibration_metrics(rows, result.settings.calibration_bins)
        if not figures:
            continue
        parts = []
        for number, run in enumerate(folds, start=1):
            if own := [row for row in run.variant.slices if row.source == source]:
                decision = run.variant.decisions[source]
                scaling = Scaling(decision["temperature"], decision["shift"])
                parts.append(FoldPredictions(number, tuple(row for row in own if row.asked), scaling))
        across = calibrate_across(parts, result.settings, result.seed)
        num_raw = sum(part.scaling == Scaling() for part in parts)
        scores[source] = {**figures, "num_raw_folds": num_raw, "across_folds": across}
    return scores


def calibrate_across(
    folds: Sequence[FoldPredictions], settings: Evaluation, seed: int
) -> dict[str, Any] | None:
    """Return calibration scores of all folds, each calibrated by the test predictions of all others.

    It serves folds with too few validation patients: test patients were held out from the model that
    predicted them, and a patient's own prediction has no part in its calibration. The result contains the
    scalings and the gain over what the folds reported. It is None with `evaluation.calibrate=none`, or where
    the other folds of one have too few groups.
    """
    parts = [_concatenate([other for other in folds if other is not fold]) for fold in folds]
    enough = all(
        part.num_groups >= settings.min_choice_patients and part.classes.sum(axis=0).min() >= MIN_PATIENTS
        for part in parts
    )
    if settings.calibrate == "none" or not enough:
        return None
    shifted = settings.calibrate == "platt"
    scalings = [fit_scaling(part.labels, part.probabilities, shifted=shifted) for part in parts]
    scores = np.concatenate([scaling(fold.raw) for scaling, fold in zip(scalings, folds, strict=True)])
    rows, pooled = [row for fold in folds for row in fold.rows], _concatenate(folds)
    before = log_likelihood(pooled.labels, [each for fold in folds for each in fold.reported])
    bootstrap = BootstrapSettings(settings.bootstrap_samples, settings.confidence, seed)
    gain = pooled.mean_gain("log-likelihood", log_likelihood(pooled.labels, scores) - before, bootstrap)
    calibrated = [_with_probability(row, score) for row, score in zip(rows, scores, strict=True)]
    numbers = [str(fold.number) for fold in folds]
    return {
        **calibration_metrics(calibrated, settings.calibration_bins),
        "gain": gain.to_json(),
        "scalings": dict(zip(numbers, [scaling._asdict() for scaling in scalings], strict=True)),
    }


def _with_probability(row: SliceRow, probability: Floats) -> SliceRow:
    """Return a row with another probability, a number, or [C] of several classes."""
    names = [name for name in row.scores if name.startswith(PROBABILITY)]
    shares = dict(zip(names, probability.tolist(), strict=True)) if names else {}
    return replace(row, probability=float(probability.max()), scores={**row.scores, **shares})


def _concatenate(folds: Sequence[FoldPredictions]) -> SliceProbabilities:
    """Return labels, raw probabilities and groups of some folds, in their order."""
    rows = [row for fold in folds for row in fold.rows]
    labels = np.array([row.label for row in rows], np.float64)
    raw = np.concatenate([fold.raw for fold in folds]) if folds else np.zeros(0)
    return SliceProbabilities(labels, raw, tuple(row.group for row in rows), is_pictures=False)


def _calibration_lines(calibration: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield the calibration scores of each source, as the folds reported them and after that across folds."""
    text = (
        "ECE {ece:.3f} in {ece_bins} bins ({ece_by_chance:.3f} if every probability were right), "
        "Brier score {brier:.3f}"
    )
    for source, scores in calibration.items():
        yield f"{source}: {text.format_map(scores)}"
        if not scores["num_raw_folds"]:
            continue
        yield f"  in {plural(scores['num_raw_folds'], 'fold')} probabilities are raw, not calibrated"
        across = scores["across_folds"]
        if across is None:
            yield "  too few patients to calibrate across the folds"
            continue
        low, high = across["gain"]["interval"] or (math.nan, math.nan)
        yield f"  calibrated across the folds: {text.format_map(across)}"
        yield f"  log-likelihood of a slice {across['gain']['value']:+.3f} ({low:+.3f} to {high:+.3f})"
