"""The section of a report on calibration, thresholds and post-processing."""

from collections.abc import Iterator, Mapping
from typing import Any

from slicewise.core.files import read_json
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.domain.report import Block, Table, Text, number
from slicewise.domain.tables import MOST_PROBABLE
from slicewise.reporting.run import ResultFolders, selection_notes, uncalibrated_sources


def thresholds(metrics: Mapping[str, Any], folders: ResultFolders) -> Iterator[Block]:
    """Yield what was selected, why the rest was not, and the effect on the test patients."""
    yield from (Text(f"{note}.") for note in selection_notes(metrics))
    yield Text(
        "They were selected and saved before the test patients were read. A setting without a significant "
        "gain on validation patients that were held out from its selection keeps its configured value."
    )
    selected = read_json(folders.evaluation / "calibration.json")["sources"]
    decisions, raw = metrics["decisions"], uncalibrated_sources(metrics)
    rows, effects = [], []
    for source, entry in decisions.items():
        scaling = f"{entry['temperature']:.2f}, {entry['shift']:+.2f}"
        population = selected[source]["validation"]["population"] if source in selected else "–"
        scaling = "raw, not calibrated" if source in raw else scaling
        head_cells = (source, population, scaling, number(entry["class_threshold"]))
        for name, rule in _mask_rules(entry, metrics):
            threshold = rule["mask_threshold"]
            cut = MOST_PROBABLE if threshold is None else number(threshold, 2)
            rows.append((*head_cells, f"{name}{cut}", _describe_masks(rule)))
            head_cells = ("", "", "", "")
        before, after = entry["before"], entry["after"]
        pairs = [(before[key], after[key]) for key in ("ece", "brier")]
        for key in ("accuracy", "dice_per_patient"):
            old, new = (scores[key] or {"value": None} for scores in (before, after))
            pairs.append((old["value"], new["value"]))
        ece, *others = (f"{number(old)} → {number(new)}" for old, new in pairs)
        effects.append((source, f"{ece} ({number(after['ece_by_chance'])})", *others))
    head = ("source", "selected on", "temperature, shift of logits", "class threshold", "mask threshold")
    chosen = Table((*head, "mask post-processing"), rows)
    head = ("source", "ECE (by chance)", "Brier score", "accuracy", "Dice per patient")
    effect = Table(head, effects, "Effect on the test patients, before → after")
    if CLASSIFICATION not in metrics["tasks"]:  # neither a probability to calibrate nor a class
        yield from (chosen.only(0, 1, 4, 5), effect.only(0, 4))
        return
    if SEGMENTATION not in metrics["tasks"]:
        chosen, effect = chosen.only(0, 1, 2, 3).without_empty(), effect.only(0, 1, 2, 3)
    yield from (chosen, effect)
    yield _calibration_note(decisions)


def _calibration_note(decisions: Mapping[str, Any]) -> Text:
    bins = next((entry["after"]["ece_bins"] for entry in decisions.values()), None) or "equal"
    return Text(
        f"ECE: expected calibration error, in {bins} bins; by chance: the ECE expected for so few slices if "
        "every probability were correct.",
        is_note=True,
    )


def _mask_rules(
    entry: Mapping[str, Any], metrics: Mapping[str, Any]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield how masks are made, with the name of the class before it where each has its own."""
    rules = entry.get("by_class")
    if not rules:
        yield "", entry
        return
    for name in metrics["classes"]["names"]:
        yield f"{name.replace('_', ' ')}: ", rules.get(name, entry)


def _describe_masks(rule: Mapping[str, Any]) -> str:
    share = f"components from {round(rule['component_share'] * 100)} % of the largest"
    parts = (
        f"components from {rule['min_component']} voxels" if rule["min_component"] else "",
        share if rule["component_share"] else "",
        "none in slices not labelled tumour" if rule["gate"] else "",
    )
    return ", ".join(filter(None, parts)) or "none"
