"""A reference mask that is given with one case, and how well its prediction agrees."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slicewise.core.errors import VolumeError
from slicewise.imaging.io.image2d import read_picture
from slicewise.imaging.io.nifti import ImageFile, align, read_nifti
from slicewise.imaging.mask_values import decode_labels
from slicewise.imaging.volume import Volume
from slicewise.inference.prediction import Prediction
from slicewise.metrics.confusion import count_overlap, dice_score, iou_score
from slicewise.tasks.segmentation import Segmentation

_FOREGROUND = 128
"""Grey value from which a pixel of a mask of 0 and 255 is inside."""


@dataclass(frozen=True)
class Agreement:
    """Overlap of the predicted mask of a class with the reference; both empty: 1."""

    dice: float
    iou: float
    reference_voxels: int
    predicted_voxels: int


def read_reference(path: Path, volume: Volume, segmentation: Segmentation) -> NDArray[np.bool_]:
    """Return the mask of each class [K, slice, row, col] from a NIfTI on the volume's grid, or a picture.

    Raises:
        DataError: it is damaged, has another grid or size, or values of unknown meaning.
    """
    if volume.orientation is not None:
        first = ImageFile(Path("the images"), volume.images[0], volume.spacing, volume.orientation, 0.0)
        file = align(first, read_nifti(path))
        labels = decode_labels(path, np.ascontiguousarray(file.array), file.step)
    else:
        pixels = read_picture(path).pixels
        labels = (pixels >= _FOREGROUND if pixels.max() > 1 else pixels > 0).astype(np.uint8)[None]
    if labels.shape != volume.shape:
        raise VolumeError(
            f"{path}: the reference is {labels.shape} and the images are {volume.shape} (slices, rows, "
            "columns); send the mask of these images"
        )
    return np.asarray(segmentation.encode_masks(labels).swapaxes(0, 1))


def compare_with_reference(prediction: Prediction, reference: NDArray[np.bool_]) -> dict[str, Agreement]:
    """Return the agreement by class; of several classes also that of all as one, under `all`.

    Args:
        prediction: of a model with segmentation.
        reference: [K, slice, row, col], see `read_reference`.
    """
    masks = prediction.masks
    assert masks is not None
    pairs = dict(zip(prediction.classes.names, zip(reference, masks, strict=True), strict=True))
    if prediction.classes.several:
        pairs["all"] = (reference.any(axis=0), masks.any(axis=0))
    agreements = {}
    for name, (truth, guess) in pairs.items():
        overlap = count_overlap(truth.reshape(1, -1), guess.reshape(1, -1))
        agreements[name] = Agreement(
            float(dice_score(overlap)), float(iou_score(overlap)), int(truth.sum()), int(guess.sum())
        )
    return agreements
