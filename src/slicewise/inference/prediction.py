"""The prediction for one case, as the evaluation makes it, and its forms: a row, JSON, and mask files."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slicewise.data.cases import CaseFiles
from slicewise.data.store import StoredCase
from slicewise.domain.classes import TUMOUR, TUMOUR_OR_NOT, Classes, Colour
from slicewise.domain.labels import (
    CLASSIFICATION,
    NOTICE,
    SEGMENTATION,
    SYNTHETIC_WARNING,
    TASKS,
    UNCERTAIN,
    Task,
)
from slicewise.imaging.io.nifti import nifti_bytes
from slicewise.imaging.orientation import Orientation
from slicewise.imaging.slicing import SlicedCase, restore_to_volume
from slicewise.inference.map_files import MapOfClass, write_pictures, write_slices, write_volumes
from slicewise.inference.operating_points import InputKind, OperatingPoint
from slicewise.inference.postprocess import component_sizes, whole_case
from slicewise.inference.prediction_rows import PredictionRow, prediction_row

if TYPE_CHECKING:
    from slicewise.inference.uncertainty import Spread

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

_MM3_PER_ML: Final = 1000.0
_WHITE: Final = np.uint8(255)
_LARGEST: Final = np.float32(65535)  # of uint16


class SlicePredictions(NamedTuple):
    """Probabilities of S slices in 0..1: `mask_probability` [S, K, N, N] of K classes of pixels, and
    `class_probability` [S] of tumour, or [S, C] of several classes of slices.
    """

    mask_probability: NDArray[np.float32]
    class_probability: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The result for one case of S slices; a picture is a volume of one slice.

    All that depends on a task that the model does not have is None.
    """

    slices: SlicedCase | StoredCase
    mask_probability: Floats
    """[S, K, N, N] from the model for K classes, 0 outside the brain"""
    class_probability: Floats
    """[S] of tumour, or [S, C] of several classes, from the model, raw"""
    kind: InputKind
    """Whose thresholds apply"""
    point: OperatingPoint
    tasks: tuple[Task, ...] = TASKS
    classes: Classes = TUMOUR
    """Of a pixel"""
    slice_classes: Classes = TUMOUR_OR_NOT
    spacing: tuple[float, float, float] | None = None
    """mm between voxels along (slice, row, col)"""
    orientation: Orientation | None = None
    """The grid of the files; None where they have no voxel sizes"""
    files: CaseFiles | None = None
    """None for arrays and stored slices"""
    fingerprint: str = ""
    """Of the model"""
    synthetic: bool = False
    """Whether the model was trained on generated patients only"""
    warnings: tuple[str, ...] = ()
    """About the files"""
    spread: "Spread | None" = None
    """The uncertainty, where it was estimated (`inference.uncertainty`)"""
    doubts: tuple[str, ...] = ()
    """What speaks against the case (`inference.plausibility`): read them before the verdict"""

    @property
    def case(self) -> str:
        return self.slices.key.case

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the case holds."""
        pairs = zip(self.slices.channels, self.slices.presence, strict=True)
        return tuple(name for name, here in pairs if here)

    @cached_property
    def probabilities(self) -> NDArray[np.float64] | None:
        """[S] of tumour, or [S, C] of several classes, calibrated where the evaluation calibrated."""
        if CLASSIFICATION not in self.tasks:
            return None
        return self.point.postprocessing.probabilities(self.class_probability)

    @cached_property
    def whole(self) -> NDArray[np.float64] | None:
        """The tumour probability of the whole case, or [C] those of several classes."""
        return None if self.probabilities is None else whole_case(self.probabilities[self.slices.included])

    @property
    def tumour_probability(self) -> float | None:
        """The tumour probability of the whole case; None with several classes."""
        return None if self.whole is None or self.whole.ndim else float(self.whole)

    @property
    def class_probabilities(self) -> dict[str, float]:
        """The probability of each of several classes by name; empty where there is only tumour or not."""
        if self.whole is None or not self.whole.ndim:
            return {}
        return dict(zip(self.slice_classes.with_absence, self.whole.tolist(), strict=True))

    @property
    def predicted_class(self) -> str | None:
        """The name of the predicted class of the whole case."""
        if self.whole is None:
            return None
        return self.slice_classes.with_absence[int(self.point.postprocessing.call(self.whole))]

    @property
    def verdict(self) -> str | None:
        """The predicted class, or `uncertain` where the probability is within the band of its threshold."""
        if self.whole is None:
            return None
        uncertain = self.point.postprocessing.is_uncertain(self.whole)
        return UNCERTAIN if uncertain else self.predicted_class

    @property
    def slice_calls(self) -> NDArray[np.int64] | None:
        """[S] the number of the predicted class of each slice."""
        if self.probabilities is None:
            return None
        return self.point.postprocessing.call(self.probabilities)

    @cached_property
    def slice_masks(self) -> Bools | None:
        """[S, K, N, N] the mask of each class on the grid of the slices."""
        if SEGMENTATION not in self.tasks:
            return None
        masks = self.point.postprocessing.masks(
            self.mask_probability, self.class_probability, self.slices.indices.tolist(), self.classes
        )
        return np.asarray(masks & np.any(self.slices.images != 0, axis=1, keepdims=True))

    @cached_property
    def slice_mask(self) -> Bools | None:
        """[S, N, N] the masks of all classes as one."""
        return None if self.slice_masks is None else np.any(self.slice_masks, axis=1)

    @cached_property
    def masks(self) -> Bools | None:
        """[K, slice, row, col] the mask of each class on the volume's own grid."""
        if self.slice_masks is None:
            return None
        thresholds = self.point.postprocessing.thresholds(self.classes)
        # Components are removed before the mask is restored, so that the others keep a smooth outline.
        removed = self.classes.decide(self.mask_probability, thresholds) & ~self.slice_masks
        kept = np.where(removed, np.float32(0), self.mask_probability)
        return np.asarray(self.classes.decide(self._restore(kept)[None], thresholds)[0])

    @property
    def probability_maps(self) -> Floats | None:
        """[K, slice, row, col] the probability of each class on the volume's own grid, from the model."""
        return None if SEGMENTATION not in self.tasks else self._restore(self.mask_probability)

    def _restore(self, probability: Floats) -> Floats:
        restored = [restore_to_volume(each, self.slices.geometry) for each in probability.swapaxes(0, 1)]
        return np.stack(restored)

    @cached_property
    def mask(self) -> Bools | None:
        """[slice, row, col] the masks of all classes as one, on the volume's own grid."""
        return None if self.masks is None else np.any(self.masks, axis=0)

    @property
    def class_numbers(self) -> NDArray[np.uint8] | None:
        """[slice, row, col] the number of the class of each voxel, from 1 on; 0 is the background.

        Where classes overlap it is the last of them.
        """
        return None if self.masks is None else self.classes.numbers(self.masks)

    @cached_property
    def volume_ml(self) -> float | None:
        """Millilitres of the mask; None where the files do not give the size of their voxels."""
        return None if self.mask is None else self._millilitres(self.mask)

    @property
    def class_volumes_ml(self) -> dict[str, float | None]:
        """Millilitres of each of several classes, by name; empty for a single class."""
        if self.masks is None or not self.classes.several:
            return {}
        pairs = zip(self.classes.names, self.masks, strict=True)
        return {name: self._millilitres(mask) for name, mask in pairs}

    def _millilitres(self, mask: Bools) -> float | None:
        return None if self.voxel_ml is None else float(np.count_nonzero(mask)) * self.voxel_ml

    @cached_property
    def lesions(self) -> dict[str, list[int]]:
        """The voxels of each connected part (26 neighbours) of the mask of each class, largest first."""
        if self.masks is None:
            return {}
        pairs = zip(self.classes.names, self.masks, strict=True)
        return {name: component_sizes(mask) for name, mask in pairs}

    @property
    def voxel_ml(self) -> float | None:
        """Millilitres of a voxel; None where the files do not give its size."""
        if self.orientation is None or self.spacing is None:
            return None
        return float(np.prod(self.spacing)) / _MM3_PER_ML

    @property
    def note(self) -> str | None:
        """The warnings about the files; None without any."""
        return "; ".join(self.warnings) or None

    def to_row(self, scores: Mapping[str, float | None] | None = None, **names: str | None) -> PredictionRow:
        """Return the row of a table, with further scores.

        `names` of files: its columns `mask`, `overlay` and so on.
        """
        return prediction_row(self, scores, **names)

    def to_json(self) -> dict[str, Any]:
        """Return the row with the notice, and the warning of a model of generated patients."""
        warning = SYNTHETIC_WARNING if self.synthetic else None
        return {"notice": NOTICE, "warning": warning, **self.to_row().to_json()}

    def mask_nifti(self) -> bytes:
        """Return the mask as .nii.gz with the geometry of the files: 1 is the first class, 2 the second.

        Raises:
            ValueError: there is no mask, or the files have no voxel grid.
        """
        if self.class_numbers is None or self.orientation is None:
            raise ValueError(f"{self.case} has no mask on a voxel grid")
        return nifti_bytes(self.class_numbers, self.orientation, compressed=True)

    def save_mask(self, folder: Path) -> str | None:
        """Write the mask on the grid of the files into `folder`; return its name there, None without a mask.

        One NIfTI for a volume (1 is the first class, 2 the second, ...), one PNG for a picture (255 is the
        only class; of several the numbers, with their colours), and a folder with a PNG per slice for slices
        without a voxel grid. Classes that overlap have one of these each, `<case>_<class>_mask`, and the
        names are separated by `; `. It takes its name when it is complete, and replaces one of that name as a
        whole.
        """
        if self.masks is None:
            return None
        palette = self.classes.colours if self.classes.exclusive else ()
        maps = [
            MapOfClass(f"{stem}_mask", numbers, numbers if palette else numbers * _WHITE)
            for stem, numbers in self._numbers_by_file()
        ]
        return self._save(folder, maps, palette)

    def save_probabilities(self, folder: Path) -> str | None:
        """Write the probability of each class of a pixel likewise: float32 in NIfTI, 65535 is 1 in PNG."""
        if self.probability_maps is None:
            return None
        return self._save_maps(folder, "probability", self.probability_maps)

    def save_uncertainty(self, folder: Path) -> str | None:
        """Write the standard deviation of each class of a pixel likewise, `<case>_uncertainty`."""
        deviation = None if self.spread is None else self.spread.mask_deviation
        if deviation is None:
            return None
        return self._save_maps(folder, "uncertainty", self._restore(deviation))

    def _save_maps(self, folder: Path, what: str, maps: Floats) -> str:
        """Write a map of 0 to 1 for each class [K, slice, row, col]."""
        stems = [f"{self.case}_{name}" for name in self.classes.several] or [self.case]
        files = [
            MapOfClass(f"{stem}_{what}", chances, np.rint(chances * _LARGEST).astype(np.uint16))
            for stem, chances in zip(stems, maps, strict=True)
        ]
        return self._save(folder, files)

    def _numbers_by_file(self) -> Iterator[tuple[str, NDArray[np.uint8]]]:
        """Yield the stem of each mask file, and its numbers [slice, row, col]."""
        assert self.masks is not None
        if self.classes.exclusive or not self.classes.several:
            yield self.case, self.classes.numbers(self.masks)
            return
        for name, mask in zip(self.classes.names, self.masks, strict=True):
            yield f"{self.case}_{name}", mask.astype(np.uint8)

    def _save(self, folder: Path, maps: Sequence[MapOfClass], palette: Sequence[Colour] = ()) -> str:
        if self.orientation is not None:
            return write_volumes(folder, maps, self.orientation)
        if self.kind == "picture":
            return write_pictures(folder, maps, palette)
        indices = [f"{index:03d}" for index in range(self.slices.geometry.shape[0])]
        names = [path.stem for path in self.files.images] if self.files else indices
        return write_slices(folder, maps, names, palette)
