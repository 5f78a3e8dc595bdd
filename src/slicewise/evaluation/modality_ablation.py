"""One network, fewer modalities: the test volumes scored with every subset of what they have."""

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
from slicewise.evaluation.summary import auc_estimate, bootstrap_settings, mean_estimate

ModalitySubset = tuple[bool, bool, bool, bool]
"""Which modality slots are given."""
Number = TypeVar("Number", bound=np.generic)

NOTE: Final = (
    "The reported network with the reported thresholds; only the modalities of the row are given, the "
    "other slots are emptied as by modality dropout in training: images 0, presence 0. Thresholds and "
    "post-processing were chosen with all modalities. Only volumes with masks; a row counts patients who "
    "have all of its modalities."
)


def list_subsets(presence: Iterable[float]) -> list[ModalitySubset]:
    """Return every non-empty subset of the filled slots: single ones first, all of them last."""
    filled = [slot for slot, present in enumerate(presence) if present]
    chosen = [set(some) for size in range(1, len(filled) + 1) for some in combinations(filled, size)]
    return [(0 in some, 1 in some, 2 in some, 3 in some) for some in chosen]


def mask_modalities(images: NDArray[Number], given: ArrayLike) -> NDArray[Number]:
    """Return images [S, 4, N, N] with the slots that are not given set to 0."""
    keep = np.asarray(given, dtype=bool)[:, None, None]
    return np.where(keep, images, np.zeros((), images.dtype))


def tabulate(results: Mapping[ModalitySubset, EvaluationResult]) -> list[SubsetRow]:
    """Return one row per source and subset, the subsets in the order given."""
    rows = [
        _row(source, given, result)
        for given, result in results.items()
        for source in by_source(result.patients)
    ]
    return sorted(rows, key=lambda row: row.source)


def write_modality_ablation(folder: Path, rows: Sequence[SubsetRow], *, synthetic: bool) -> dict[str, Any]:
    """Write modality_subsets.csv, .json and .png; return Dice and AUC by source and subset."""
    from slicewise.plots.modality_ablation import draw_subsets

    found = {
        source: {row.modalities: {"dice": row.dice, "roc_auc": row.roc_auc} for row in own}
        for source, own in by_source(rows).items()
    }
    table = [{name: getattr(row, name) for name in SubsetRow.__slots__} for row in rows]
    write_rows(folder / "modality_subsets.csv", rows, SubsetRow)
    write_json(folder / "modality_subsets.json", {"synthetic": synthetic, "rows": table, "note": NOTE})
    for source, own in by_source(rows).items():
        draw_subsets(folder / f"modality_subsets_{source}.png", own, synthetic=synthetic)
    return found


def _row(source: str, given: ModalitySubset, result: EvaluationResult) -> SubsetRow:
    bootstrap = bootstrap_settings(result)
    slices, patients = by_source(result.slices)[source], by_source(result.patients)[source]
    names = [name for name, is_given in zip(MODALITIES, given, strict=True) if is_given]
    return SubsetRow(
        source, "+".join(names), len(names), *given, len(patients), len(slices),
        *_numbers(mean_estimate(patients, lambda row: row.dice, bootstrap)),
        *(3 * (None,) if CLASSIFICATION in result.not_trained else _numbers(auc_estimate(slices, bootstrap))),
    )  # fmt: skip


def _numbers(found: Estimate) -> tuple[float | None, float | None, float | None]:
    return found.value, found.low, found.high
