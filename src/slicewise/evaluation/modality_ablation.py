"""Modality ablation: one model on the test volumes with every subset of their modalities."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slicewise.core.files import write_json
from slicewise.domain.labels import CLASSIFICATION, MODALITIES
from slicewise.domain.tables import Estimate, SubsetRow, by_source, write_rows
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.summary import bootstrap_settings, mean_estimate, pooled_estimate
from slicewise.metrics.table import METRICS
from slicewise.plots.modality_ablation import draw_subsets

ModalitySubset = tuple[bool, bool, bool, bool]
"""Which modality slots are given."""
Number = TypeVar("Number", bound=np.generic)

NOTE: Final = (
    "The reported model with the reported thresholds; only the modalities of the row are given, the "
    "other slots are emptied as by modality dropout in training: images 0, presence 0. Thresholds and "
    "post-processing were selected with all modalities. Only volumes with masks; a row counts patients who "
    "have all of its modalities."
)


def list_subsets(presence: Iterable[float]) -> list[ModalitySubset]:
    """Return every non-empty subset of the filled slots: single ones first, all of them last."""
    filled = [slot for slot, present in enumerate(presence) if present]
    subsets = [set(slots) for size in range(1, len(filled) + 1) for slots in combinations(filled, size)]
    return [(0 in slots, 1 in slots, 2 in slots, 3 in slots) for slots in subsets]


def mask_modalities(images: NDArray[Number], given: ArrayLike) -> NDArray[Number]:
    """Return images [S, 4, N, N] with the slots that are not given set to 0."""
    keep = np.asarray(given, dtype=bool)[:, None, None]
    return np.where(keep, images, np.zeros((), images.dtype))


def tabulate(results: Mapping[ModalitySubset, EvaluationResult]) -> list[SubsetRow]:
    """Return one row per source and subset, the subsets in the order given."""
    rows = []
    for given, result in results.items():
        bootstrap = bootstrap_settings(result)
        names = [name for name, is_given in zip(MODALITIES, given, strict=True) if is_given]
        for source, patients in by_source(result.patients).items():
            slices = by_source(result.slices)[source]
            dice, auc = (
                mean_estimate(patients, lambda row: row.dice, bootstrap),
                Estimate(None, None, None, 0),
            )
            if CLASSIFICATION not in result.not_trained:
                auc = pooled_estimate(METRICS["roc_auc"], slices, bootstrap)
            rows.append(
                SubsetRow(
                    source, "+".join(names), len(names), *given, len(patients), len(slices),
                    dice.value, dice.low, dice.high, auc.value, auc.low, auc.high,
                )
            )  # fmt: skip
    return sorted(rows, key=lambda row: row.source)


def write_modality_ablation(folder: Path, rows: Sequence[SubsetRow], *, synthetic: bool) -> dict[str, Any]:
    """Write modality_subsets.csv, .json and .png; return Dice and AUC by source and subset."""
    scores = {
        source: {row.modalities: {"dice": row.dice, "roc_auc": row.roc_auc} for row in own}
        for source, own in by_source(rows).items()
    }
    table = [{name: getattr(row, name) for name in SubsetRow.__slots__} for row in rows]
    write_rows(folder / "modality_subsets.csv", rows, SubsetRow)
    write_json(folder / "modality_subsets.json", {"synthetic": synthetic, "rows": table, "note": NOTE})
    for source, own in by_source(rows).items():
        draw_subsets(folder / f"modality_subsets_{source}.png", own, synthetic=synthetic)
    return scores
