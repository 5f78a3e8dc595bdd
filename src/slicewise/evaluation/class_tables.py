"""Tables of classes, of pixels or of slices: the scores of each, and the confusion matrix."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slicewise.domain.report import Table, interval_text, number
from slicewise.metrics.table import METRICS, score_key, score_label

_CLASS_METRICS = ("dice", "iou", "precision", "recall", "pixel_specificity", "hd95_mm")
"""Of each class of pixels"""
_BRATS_METRICS = ("dice", "brats_hd95_mm", "lesion_dice", "lesion_hd95_mm", "lesion_f1")
"""Likewise, of volumes"""
_SLICE_CLASS_METRICS = ("roc_auc", "sensitivity", "ppv", "f1")


def slice_class_tables(section: Mapping[str, Any], labels: Sequence[str], source: str) -> Iterator[Table]:
    """Yield the scores of several classes of slices, each against the others, and their confusion matrix."""
    metrics = [METRICS[name] for name in _SLICE_CLASS_METRICS]
    rows = [
        (
            *(label, f"{scores['num_slices']:,}"),
            *(_with_interval(scores[metric.name]) for metric in metrics),
        )
        for label, scores in zip(labels, section["classes"].values(), strict=True)
    ]
    caption = f"{source}: each class against the others"
    yield Table(("class", "number", *(metric.label for metric in metrics)), rows, caption)
    yield _confusion(labels, section["confusion"], f"{source}: confusion of the classes")


def _with_interval(entry: Mapping[str, Any]) -> str:
    interval = "" if entry["interval"] is None else f" ({interval_text(entry)})"
    return number(entry["value"]) + interval


def class_tables(metrics: Mapping[str, Any], source: str) -> Iterator[Table]:
    """Yield the tables of the classes of pixels: the scores of several, and their confusion."""
    section = metrics["sources"][source]["segmentation"] or {}
    if "classes" in section:
        keys = [*map(_class_key, _CLASS_METRICS), "iou_of_all_pixels"]
        yield _class_table(section["classes"], keys, f"{source}: each class; means over patients")
        keys = [*map(_class_key, _BRATS_METRICS)]
        if all(scores[keys[-1]]["value"] is not None for scores in section["classes"].values()):
            caption = f"{source}: each class as in BraTS; means over patients"
            yield _class_table(section["classes"], keys, caption)
    pixels = section.get("all_pixels")
    if pixels is None or pixels["confusion"] is None:
        return
    known = metrics.get("classes", {"absence": "background", "names": ["tumour"]})
    names = [name.replace("_", " ") for name in (known["absence"], *known["names"])]
    caption = (
        f"{source}: all pixels by class; accuracy {pixels['accuracy']:.3f}, mean IoU {pixels['mean_iou']:.3f}"
    )
    yield _confusion(names, pixels["confusion"], caption)


def _confusion(names: Sequence[str], counts: Sequence[Sequence[int]], caption: str) -> Table:
    cells = [
        (f"truly {name}", *(f"{count:,}" for count in row)) for name, row in zip(names, counts, strict=True)
    ]
    return Table(("", *(f"called {name}" for name in names)), cells, caption)


def _class_key(metric: str) -> str:
    return score_key(METRICS[metric])


def _class_table(classes: Mapping[str, Any], keys: Sequence[str], caption: str) -> Table:
    rows = []
    for name, scores in classes.items():
        values = [part["value"] if isinstance(part := scores[key], Mapping) else part for key in keys]
        rows.append((name.replace("_", " "), *map(number, values)))
    labels = (score_label(key).replace(" per patient", "").replace("iou of", "IoU of") for key in keys)
    return Table(("class", *labels), rows, caption).without_empty()
