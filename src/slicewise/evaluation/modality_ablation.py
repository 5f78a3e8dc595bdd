"""Modality ablation: one model on the test volumes with every subset of their modalities."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slicewise.evaluation.comparison import Variant, compare, write_comparison
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.imaging.volume import Presence

Number = TypeVar("Number", bound=np.generic)

NOTE: Final = (
    "The reported model with the reported thresholds; only the modalities of the row are given, the "
    "other slots are emptied as by modality dropout in training: images 0, presence 0. Thresholds and "
    "post-processing were selected with all modalities. Only volumes with masks; a row counts patients who "
    "have all of its modalities."
)


def list_subsets(presence: Iterable[float]) -> list[Presence]:
    """Return every non-empty subset of the filled slots: all of them first, single ones last."""
    present = list(presence)
    filled = [slot for slot, is_present in enumerate(present) if is_present]
    subsets = [slots for size in range(len(filled), 0, -1) for slots in combinations(filled, size)]
    return [tuple(slot in slots for slot in range(len(present))) for slots in subsets]


def mask_modalities(images: NDArray[Number], given: ArrayLike) -> NDArray[Number]:
    """Return images [S, channel, N, N] with the channels that are not given set to 0."""
    keep = np.asarray(given, dtype=bool)[:, None, None]
    return np.where(keep, images, np.zeros((), images.dtype))


def write_modality_ablation(
    folder: Path, results: Mapping[Presence, EvaluationResult], channels: Sequence[str], *, synthetic: bool
) -> dict[str, Any]:
    """Write modality_subsets.csv, .json, .md and .png; return the scores by source and subset.

    Differences are to the first of `results`, which has all modalities.
    """
    variants = []
    for given, result in results.items():
        name = "+".join(channel for channel, is_given in zip(channels, given, strict=True) if is_given)
        variants.append(Variant(name, result.slices, result.patients, result.absent, result.seed))
    rows = compare(variants, next(iter(results.values())).bootstrap)
    title = "With these modalities alone"
    write_comparison(folder, "modality_subsets", rows, title, variants, synthetic=synthetic, note=NOTE)
    scores: dict[str, Any] = {}
    for row in rows:
        if not row.minus:
            scores.setdefault(row.source, {}).setdefault(row.variant, {})[row.score] = row.value
    return scores
