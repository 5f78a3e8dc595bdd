"""The report of an evaluation: metrics.json, report.txt, tables and figures; its scores as tables."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from slicewise.core.files import write_json, write_text
from slicewise.domain.classes import TUMOUR_OR_NOT, Classes
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION, Task
from slicewise.domain.report import WIDTH, Table, Verdict, interval_text, number
from slicewise.domain.tables import (
    PatientRow,
    SliceRow,
    by_source,
    describe_counts,
    plural,
    resampling_unit,
    write_rows,
)
from slicewise.domain.wording import is_of_pictures, reword
from slicewise.evaluation.class_tables import class_tables, slice_class_tables
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.held_out import HeldOutResult, compare_thresholds
from slicewise.evaluation.summary import (
    describe_threshold,
    headline_scores,
    labelled_scores,
    pooled_estimate,
    summarise,
)
from slicewise.inference.postprocess import Postprocessing
from slicewise.metrics.table import METRICS, Metric, score_key, score_label
from slicewise.plots.classification import draw_confusion, draw_reliability, draw_roc
from slicewise.plots.scores import draw_classes, draw_dice

Line = tuple[str, str, str, str, str]
"""Name, value, interval, number of patients or families, note; a missing value is a dash"""

CLASSES_FIGURE: Final = "classes.png"
"""IoU and confusion of the classes of pixels"""
_CALIBRATION = (
    ("ece", "calibration error, {ece_bins} bins"),
    ("ece_by_chance", "of it by chance"),
    ("brier", "Brier score"),
)
_MACRO = (
    "ROC-AUC, PR-AUC, sensitivity, specificity, PPV, F1: means over the classes, each against the others."
)
_NOT_POSTPROCESSING = ("before", "after", "notes")  # keys of `compare_thresholds` besides the post-processing


class SourceScores(NamedTuple):
    """The headline scores and all scores of one source, and why some have no interval."""

    verdict: Verdict
    headlines: Table
    details: Table
    notes: list[str]
    classes: list[Table]
    """Of several classes, of pixels or of slices, the scores of each, and the confusion matrix of those that
    exclude each other"""


def write_report(
    folder: Path, held_out: HeldOutResult, *, data_name: str, stage: str, synthetic: bool
) -> dict[str, Any]:
    """Write metrics.json, report.txt, slices.csv, patients.csv and the score figures; return the metrics."""
    metrics = {"data": data_name, "synthetic": synthetic, "stage": stage, **summarise(held_out.after)}
    metrics["decisions"] = compare_thresholds(held_out)
    write_tables(folder, held_out.after, metrics)
    write_text(folder / "report.txt", to_text(metrics))
    draw_reliability(
        folder / "reliability_diagram.png",
        held_out.before,
        held_out.after,
        held_out.selection.postprocessing,
        bins=held_out.after.settings.calibration_bins,
        synthetic=synthetic,
    )
    return metrics


def write_tables(
    folder: Path, result: EvaluationResult, metrics: dict[str, Any], *, pooled: bool = False
) -> None:
    """Write metrics.json, slices.csv, patients.csv and the figures that need no more than these.

    `pooled`: the predictions are those of several models.
    """
    synthetic, bootstrap = bool(metrics["synthetic"]), result.bootstrap
    write_json(folder / "metrics.json", metrics)
    write_rows(folder / "slices.csv", result.slices, SliceRow)
    write_rows(folder / "patients.csv", result.patients, PatientRow)
    draw_confusion(folder / "confusion_matrix.png", result, synthetic=synthetic)
    draw_dice(folder / "metric_distribution.png", result, synthetic=synthetic)
    if result.pixels and (result.classes.several or CLASSIFICATION not in result.tasks):
        draw_classes(folder / CLASSES_FIGURE, result.classes, result.pixels, synthetic=synthetic)
    slices = by_source(result.slices)
    aucs = {source: pooled_estimate(METRICS["roc_auc"], rows, bootstrap) for source, rows in slices.items()}
    draw_roc(folder / "roc_curve.png", result, aucs, synthetic=synthetic, pooled=pooled)


def to_text(metrics: Mapping[str, Any]) -> str:
    """Return the report for a terminal."""
    intervals, kind = metrics["intervals"], "synthetic" if metrics["synthetic"] else "real"
    facts = {
        "checkpoint": metrics["stage"],
        "intervals": f"{intervals['confidence']:.0%}, {intervals['samples']:,} samples",
        "": intervals["method"],
    }
    segmented = SEGMENTATION in metrics["tasks"]
    if segmented and not is_of_pictures():
        facts["surfaces"] = f"3-D, NSD within {metrics['nsd_tolerance_mm']:g} mm"
    lines = [f"SliceWise evaluation: {metrics['data']} ({kind} data)", "=" * WIDTH]
    lines += Table(("", ""), [*facts.items()]).lines()
    for (source, entry), scores in zip(metrics["sources"].items(), source_scores(metrics), strict=True):
        lines += ["", *scores.details.lines(), *(f"  {note}" for note in scores.notes)]
        lines += [line for table in scores.classes for line in ("", *table.lines())]
        if classes := entry["classification"]:
            lines.append(f"  always the majority class: accuracy {classes['majority_accuracy']:.3f}")
        if whole := entry["patient_classification"]:
            lines += _confusion_lines(whole, classes["confusion"])
        if "decisions" in metrics:
            lines += _selection_lines(metrics["decisions"][source], metrics["tasks"])
    if segmented:
        lines += ["", *textwrap.wrap(f"Empty masks: {metrics['empty_reference_policy']}", WIDTH)]
    return "\n".join(reword(line).rstrip() for line in lines) + "\n"


def _confusion_lines(whole: Mapping[str, Any], cells: Mapping[str, int]) -> Iterator[str]:
    """Yield the confusion of tumour or not, and the number of patients of each."""
    negative = (f"{cells['true_negative']:,}", f"{cells['false_positive']:,}")
    positive = (f"{cells['false_negative']:,}", f"{cells['true_positive']:,}")
    confusion = [("truly no tumour", *negative), ("truly tumour", *positive)]
    yield from Table(("", "called no tumour", "called tumour"), confusion).lines()
    # a family of pictures is one patient
    ill, healthy = whole["num_with_tumour"], whole["num_without_tumour"]
    yield f"  whole patients: {ill:,} with tumour, {healthy:,} without"


def _selection_lines(entry: Mapping[str, Any], tasks: Sequence[Task]) -> Iterator[str]:
    """Yield the scores before and after the selection on validation, and the selected post-processing."""
    before, after = entry["before"], entry["after"]
    pairs = {
        words.format_map(after): (before[name], after[name])
        for name, words in _CALIBRATION
        if after[name] is not None
    }
    earlier = dict(labelled_scores(before))
    pairs |= {label: (earlier[label]["value"], new["value"]) for label, new in labelled_scores(after)}
    rows = [(label, number(old), number(new)) for label, (old, new) in pairs.items()]
    yield from Table(("selected on validation", "before", "after"), rows).lines()
    for text in (_postprocessing(entry).describe(tasks), *entry["notes"]):
        yield from textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _postprocessing(decision: Mapping[str, Any]) -> Postprocessing:
    return Postprocessing.from_json(
        {name: value for name, value in decision.items() if name not in _NOT_POSTPROCESSING}
    )


def headlines(metrics: Mapping[str, Any], gains: Mapping[str, str] | None = None) -> list[str]:
    """Return the main scores of each source as lines for a terminal; `gains` by source: of the last stage."""
    lines = []
    for source, entry in metrics["sources"].items():
        lines.append(f"{source}: {describe_counts(entry['num_patients'], entry['num_slices'])}")
        for metric, estimate in headline_scores(entry):
            decision = metrics.get("decisions", {}).get(source)
            threshold = describe_threshold(metric, decision)
            condition = f" ({threshold})" if threshold else ""
            value = number(estimate["value"], missing="n/a")
            if estimate["interval"] is not None:
                value += f" ({interval_text(estimate)})"
            lines.append(f"  {score_label(score_key(metric)):<22}{value}{condition}")
            for name, score in _class_scores(entry, metric):
                interval = f" ({interval_text(score)})" if score["interval"] else ""
                lines.append(f"    {name:<20}{number(score['value'], missing='n/a')}{interval}")
        if classes := entry["classification"]:
            majority, accuracy = classes["majority_class"], classes["majority_accuracy"]
            lines.append(f"  always predicting {majority} has an accuracy of {accuracy:.3f}")
        if gains and source in gains:
            lines.append(f"  {gains[source]}")
    return [reword(line) for line in lines]


def _class_scores(entry: Mapping[str, Any], metric: Metric) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the name of each of several classes of pixels, and its score."""
    for name, scores in (entry["segmentation"] or {}).get("classes", {}).items():
        if (score := scores.get(score_key(metric))) is not None:
            yield name.replace("_", " "), score


def source_scores(metrics: Mapping[str, Any]) -> list[SourceScores]:
    """Return the scores of each source of `metrics.json`."""
    sources = []
    for name, entry in metrics["sources"].items():
        # A cross-validation has no decisions: each fold has its own.
        decision = metrics.get("decisions", {}).get(name)
        details = [*_segmentation_lines(entry), *_classification_lines(entry)]
        counts = f"{name}: {describe_counts(entry['num_patients'], entry['num_slices'])}"
        head = ("score", "value", "interval", resampling_unit(entry), "")
        parts = ("segmentation", "classification", "patient_classification")
        sections = [entry[part] or {} for part in parts]
        estimates = [part for section in sections for part in section.values() if isinstance(part, Mapping)]
        notes = sorted({str(part["note"]).capitalize() for part in estimates if _lacks_interval(part)})
        if (whole := entry["patient_classification"]) and whole["roc_auc"]["value"] is None:
            notes.append(f"Patients: {whole['roc_auc']['note']}.")
        notes += _uncertain_notes(entry, decision)
        if entry["segmentation"] is None and "segmentation" in metrics["tasks"]:
            notes.append("Segmentation is not scored: this source has no masks.")
        tables, composition = [*class_tables(metrics, name)], f"{entry['num_tumour_slices']:,} with tumour"
        if "slice_classes" in metrics:
            notes.append(_MACRO)
            labels = (Classes.from_json(metrics["slice_classes"]) or TUMOUR_OR_NOT).labels
            tables += slice_class_tables(entry["classification"], labels, name)
            numbers = [each["num_slices"] for each in entry["classification"]["classes"].values()]
            pairs = zip(numbers, labels, strict=True)
            composition = ", ".join(f"{count:,} {label}" for count, label in pairs)
        main = Table(head, _headline_lines(entry, decision), counts)
        every = Table(head, details, f"{counts}, {composition}")
        sources.append(SourceScores(_verdict(name, entry), main, every, notes, tables))
    return sources


def _verdict(source: str, entry: Mapping[str, Any]) -> Verdict:
    """Return the headline scores of a source as a sentence."""
    scores = []
    for metric, estimate in headline_scores(entry):
        value = number(estimate["value"], missing="undefined")
        interval = f" ({interval_text(estimate)})" if estimate["interval"] else ""
        scores.append(f"{score_label(score_key(metric))} {value}{interval}")
    counts = describe_counts(entry["num_patients"], entry["num_slices"])
    return Verdict(source, f"{'; '.join(scores)}. {counts} tested.")


def _uncertain_notes(entry: Mapping[str, Any], decision: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield how many predictions are uncertain, and how many of these and of the others are wrong."""
    interval = None if decision is None else _postprocessing(decision).uncertain_interval
    band = f" (probability {interval[0]:.3g} to {interval[1]:.3g})" if interval else ""
    for part, noun in (("classification", "slice"), ("patient_classification", "patient")):
        if not (counts := (entry[part] or {}).get("uncertain")):
            continue
        number, others = counts["num_uncertain"], counts["num_others"]
        wrong = f"{counts['num_others_wrong']:,} of the other {others:,} wrong"
        if number:
            wrong = f"{counts['num_uncertain_wrong']:,} of these wrong; {wrong}"
        yield f"Uncertain{band}: {number:,} of {plural(number + others, noun)}; {wrong}."


def _headline_lines(entry: Mapping[str, Any], decision: Mapping[str, Any] | None) -> list[Line]:
    """Return the main scores with their thresholds, and beside the accuracy that of the majority class."""
    lines = []
    for metric, estimate in headline_scores(entry):
        threshold = describe_threshold(metric, decision)
        label = score_label(score_key(metric))
        lines.append(_line(f"{label} ({threshold})" if threshold else label, estimate))
        lines += [_line(f"{label}, {name}", score) for name, score in _class_scores(entry, metric)]
        if metric.name == "accuracy":
            classes = entry["classification"]
            note = f"accuracy of always predicting “{classes['majority_class'].replace('_', ' ')}”"
            lines.append(("majority class", number(classes["majority_accuracy"]), "–", "–", note))
    return lines


def _segmentation_lines(entry: Mapping[str, Any]) -> list[Line]:
    """Return every score of masks, how many references are empty, and how many tumours have no mask.

    HD95 excludes both.
    """
    section = entry["segmentation"] or {}
    lines = [
        _line(label, estimate)
        for label, estimate in labelled_scores(section)
        # Pictures are their own slices, and their pixels have no size.
        if not (is_of_pictures() and (label.endswith("slice") or estimate["num_patients"] == 0))
    ]
    for part, name in (("empty_reference", "empty reference"), ("empty_prediction", "missed entirely")):
        counts = {key.removeprefix("num_").replace("_", " "): n for key, n in section.get(part, {}).items()}
        lines += [
            (f"{name}, {words}", str(count), "–", "–", "")
            for words, count in counts.items()
            if not (is_of_pictures() and "slice" in words)
        ]
    return lines


def _classification_lines(entry: Mapping[str, Any]) -> list[Line]:
    """Return the scores of slices, then those of patients, where a family of pictures is one patient.

    If all patients have a tumour, or none has, there is one line with the number classified as tumour.
    """
    lines = [_line(label, estimate) for label, estimate in labelled_scores(entry["classification"])]
    whole = entry["patient_classification"]
    if whole and whole["roc_auc"]["value"] is None:
        called = f"{whole['num_called']} of {whole['num_patients']}"
        return [*lines, ("patients classified as tumour", called, "–", str(whole["num_patients"]), "")]
    return lines + [_line(f"{label}, patient level", part) for label, part in labelled_scores(whole)]


def _line(name: str, entry: Mapping[str, Any]) -> Line:
    note = "" if _lacks_interval(entry) else str(entry.get("note") or "")
    interval = "–" if entry["interval"] is None else interval_text(entry)
    return name, number(entry["value"]), interval, str(entry["num_patients"]), note


def _lacks_interval(estimate: Mapping[str, Any]) -> bool:
    return str(estimate.get("note") or "").startswith("no interval")
