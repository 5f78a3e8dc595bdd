"""What a model predicted on the slices of one case, beside the reference."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slicewise.domain.classes import TUMOUR, TUMOUR_OR_NOT, Classes
from slicewise.domain.keys import SliceKey
from slicewise.inference.postprocess import Postprocessing


@dataclass(frozen=True)
class CaseOutput:
    """Predictions and labels of one case of S slices.

    Raises:
        ValueError: the arrays differ in length or shape, or a slice has no label.
    """

    keys: Sequence[SliceKey]
    group: str
    """What is split as one: the patient, or a family of near-identical pictures."""
    mask_probability: NDArray[np.float32]
    """[S, K, N, N] of K classes; of one also [S, N, N]"""
    class_probability: NDArray[np.float32]
    """[S] of tumour, or [S, C] of several classes"""
    masks: NDArray[np.uint8] | NDArray[np.bool_]
    """Likewise; inside is anything but 0. Ignored without `has_mask`."""
    has_mask: bool
    labels: NDArray[np.int8]
    """[S]; 1 tumour, 0 none; or the number of one of several classes."""
    pixel_mm: float | None
    """Side of one pixel of the N x N slice; None where the files give no size, and volumes stay unknown."""
    slice_mm: float
    """Distance between slices."""
    included: NDArray[np.bool_] | None = None
    """[S], False for excluded slices (too little brain); None: all are included."""
    classes: Classes = TUMOUR
    """Of a pixel"""
    slice_classes: Classes = TUMOUR_OR_NOT

    def __post_init__(self) -> None:
        parts = (self.keys, self.mask_probability, self.class_probability, self.labels)
        lengths = {len(part) for part in parts}
        name = str(self.keys[0].case_key) if self.keys else "a case without slices"
        if len(lengths) != 1 or (self.has_mask and self.masks.shape != self.mask_probability.shape):
            raise ValueError(f"keys, predictions and labels of {name} differ in length or shape")
        if not np.isin(self.labels, range(len(self.slice_classes.with_absence))).all():
            raise ValueError(f"{name} has slices without a label; leave it out of the test cases")

    @property
    def indices(self) -> list[int]:
        """Index of each slice in its volume."""
        return [key.index for key in self.keys]

    @property
    def probability(self) -> NDArray[np.float32]:
        """The probabilities of the pixels [S, K, N, N]."""
        return self._by_class(self.mask_probability)

    def predicted(self, postprocessing: Postprocessing) -> NDArray[np.bool_]:
        """Return the predicted masks [S, K, N, N]."""
        return postprocessing.masks(self.probability, self.class_probability, self.indices, self.classes)

    @property
    def reference(self) -> NDArray[np.bool_]:
        """The masks [S, K, N, N]."""
        return np.asarray(self._by_class(self.masks) != 0)

    def _by_class(self, values: NDArray[Any]) -> NDArray[Any]:
        return values.reshape(len(values), len(self.classes), *values.shape[-2:])
