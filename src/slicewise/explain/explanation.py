"""One slice and what each method of explanation makes of it: as arrays, and as a row of a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slicewise.domain.tables import SliceRow
from slicewise.explain.faithfulness import Curves
from slicewise.explain.localization import SaliencySlice

RANDOM_SALIENCY: Final = "random"
"""Random blobs in place of a method's saliency map."""


@dataclass(frozen=True)
class SliceExplanation:
    """One slice and what each method makes of it.

    `heats` are [N, N] in 0..1 by method, `curves` by method and `random` (none for a slice that was not
    called tumour), `likeness` by method one number per level of forgetting (none where there is no heat, or
    nobody asked).
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
    """What `explanations.csv` says of one slice and method."""

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
