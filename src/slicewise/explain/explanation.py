"""The explanation of one slice by each method: as arrays, and as a row of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slicewise.domain.tables import SliceRow
from slicewise.explain.faithfulness import Curves

RANDOM_SALIENCY: Final = "random"
"""Name of the baseline: random blobs in place of a method's saliency map."""


@dataclass(frozen=True)
class SaliencySlice:
    """One slice with its saliency map. All arrays [N, N]; `reference` is None where there is no mask."""

    row: SliceRow
    grey: NDArray[np.float32]
    saliency: NDArray[np.float32]
    inside: NDArray[np.bool_]
    reference: NDArray[np.bool_] | None


@dataclass(frozen=True, slots=True)
class SaliencyRow:
    """One slice in `gradcam.csv`."""

    file: str
    source: str
    patient: str
    case: str
    index: int
    label: int
    probability: float
    right: bool
    share_inside: float | None
    share_by_area: float | None
    hit: bool | None


@dataclass(frozen=True)
class SliceExplanation:
    """One slice with the results of each method.

    Attributes:
        saliency_maps: [N, N] in 0..1 by method.
        curves: by method and `random`; empty for a slice that was not called tumour.
        rank_correlation: by method, one per level of randomization; none for an empty map or a slice outside
            the sanity check.
    """

    sample: SaliencySlice
    saliency_maps: Mapping[str, NDArray[np.float32]]
    curves: Mapping[str, Curves]
    rank_correlation: Mapping[str, Sequence[float]]

    @property
    def row(self) -> SliceRow:
        return self.sample.row


@dataclass(frozen=True, slots=True)
class ExplanationRow:
    """One slice and method in `explanations.csv`."""

    source: str
    patient: str
    case: str
    index: int
    label: int
    probability: float
    right: bool
    method: str
    share_inside: float | None
    share_by_area: float | None
    hit: bool | None
    deletion_auc: float | None
    insertion_auc: float | None
    likeness_head: float | None
    likeness_decoder: float | None
    likeness_encoder: float | None
