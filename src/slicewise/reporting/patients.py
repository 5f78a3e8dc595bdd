"""The section of a report that lists every test patient, or every slice of several classes."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from slicewise.domain.classes import Classes
from slicewise.domain.labels import CLASSIFICATION
from slicewise.domain.report import Block, Table, Text, number
from slicewise.domain.tables import PatientRow, SliceRow, read_rows
from slicewise.domain.wording import is_of_pictures
from slicewise.metrics.table import METRICS
from slicewise.reporting.run import ResultFolders

MAX_PATIENTS: Final = 300
_PICTURE_METRICS: Final = ("dice", "iou", "precision", "recall", "pixel_specificity", "boundary_f1")
"""Columns of the table of test pictures"""
LINKS: Final = {
    "metrics": "../multitask_evaluation/metrics.json",
    "text": "../multitask_evaluation/report.txt",
    "patients": "../multitask_evaluation/patients.csv",
    "slices": "../multitask_evaluation/slices.csv",
    "calibration": "../multitask_evaluation/calibration.json",
    "phases": "../phase_comparison/phase_comparison.csv",
    "failures": "../failures/slices.csv",
    "traits": "../failures/traits.csv",
    "gradcam": "../../visualizations/multitask_gradcam/explanations.csv",
    "subsets": "../ablations/modality_subsets.csv",
    "model_card": "model_card.md",
}
"""The tables behind the page, relative to its folder in the workspace."""


def patients(metrics: Mapping[str, Any], folders: ResultFolders) -> Iterator[Block]:
    """Yield the table of the test patients, worst first; of several classes that of the slices."""
    if classes := Classes.from_json(metrics.get("slice_classes")):
        yield from _slices_of_classes(classes, folders)
        return
    rated = read_rows(folders.evaluation / "patients.csv", PatientRow)
    rated.sort(
        key=lambda row: (row.source, 2.0 if row.dice is None else row.dice, row.slice_accuracy, row.patient)
    )
    classified = CLASSIFICATION in metrics["tasks"]
    names = metrics["classes"]["names"] if "classes" in metrics else ()
    rows = [
        (
            *(row.source, row.patient, str(row.num_slices), str(row.num_tumour_slices), number(row.dice)),
            *(number(row.scores.get(f"dice_{name}")) for name in names),
            *(number(row.scores.get("nsd")), number(row.scores.get("hd95_mm"), 1)),
            *(number(row.reference_ml, 1), number(row.predicted_ml, 1)),
            number(row.slice_accuracy if classified else None),
        )
        for row in rated[:MAX_PATIENTS]
    ]
    each = (f"Dice, {name.replace('_', ' ')}" for name in names)
    head = ("source", "patient", "slices", "with tumour", "Dice", *each, "NSD", "HD95 mm", "reference ml")
    table = Table((*head, "predicted ml", "slice accuracy"), rows)
    if is_of_pictures():
        scores = [METRICS[name] for name in _PICTURE_METRICS if name in METRICS]
        table = Table(
            ("source", "patient", *(metric.label for metric in scores)),
            [
                (row.source, row.patient, *(number(row.scores.get(metric.name)) for metric in scores))
                for row in rated[:MAX_PATIENTS]
            ],
        )
    yield table.without_empty()
    shown = f"{MAX_PATIENTS} of {len(rated)} are shown. " if len(rated) > MAX_PATIENTS else ""
    links = {"patients.csv": LINKS["patients"], "slices.csv": LINKS["slices"]}
    yield Text(f"{shown}All columns, and all slices:", links, is_note=True)


def _slices_of_classes(classes: Classes, folders: ResultFolders) -> Iterator[Block]:
    """Yield the table of the slices of several classes: wrong ones first, the surest of them on top."""
    slices = read_rows(folders.evaluation / "slices.csv", SliceRow)
    slices.sort(key=lambda row: (row.source, row.right, row.probability * (1 if row.right else -1), row.key))
    rows = [
        (
            *(row.source, row.case, str(row.index), classes.labels[row.label], classes.labels[row.predicted]),
            *(number(row.probability, 2), number(row.class_probabilities[row.label], 2)),
        )
        for row in slices[:MAX_PATIENTS]
    ]
    head = ("source", "case", "slice", "true class", "predicted", "its probability", "of the true class")
    table = Table(head, rows)
    yield table.only(0, 1, 3, 4, 5, 6) if is_of_pictures() else table  # each case is its only slice
    shown = f"{MAX_PATIENTS} of {len(slices)} are shown. " if len(slices) > MAX_PATIENTS else ""
    yield Text(f"{shown}All columns, and all slices:", {"slices.csv": LINKS["slices"]}, is_note=True)
