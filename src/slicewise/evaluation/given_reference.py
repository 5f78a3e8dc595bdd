"""A reference mask that is given with one case, and how well its prediction agrees."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from slicewise.core.errors import VolumeError
from slicewise.data.cases import CaseFiles
from slicewise.data.filenames import effective_name
from slicewise.imaging.io.mask2d import choose_labels, decode_mask, read_mask
from slicewise.imaging.io.nifti import ImageFile, align, read_nifti
from slicewise.imaging.mask_values import decode_labels
from slicewise.imaging.volume import Volume
from slicewise.inference.prediction import Prediction
from slicewise.metrics.confusion import count_overlap, dice_score, iou_score

if TYPE_CHECKING:
    from slicewise.tasks.segmentation import Segmentation

_AFFIX: Final = re.compile(r"[_-](seg|mask|segmentation)$", re.IGNORECASE)


@dataclass(frozen=True)
class Agreement:
    """Overlap of the predicted mask of a class with the reference; both empty: 1."""

    dice: float
    iou: float
    reference_voxels: int
    predicted_voxels: int


def find_references(folder: Path) -> dict[str, Path]:
    """Return the masks in a folder by the lower-case name of what they belong to.

    That is their name without suffix and without `_seg`, `_mask` or `_segmentation`.
    """
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {_AFFIX.sub("", effective_name(path).split(".")[0]).lower(): path for path in files}


def references_of(case: CaseFiles, references: Mapping[str, Path]) -> list[Path]:
    """Return the mask of a case, of slices in files of their own that of each; empty where one is missing."""
    stems = [effective_name(path).split(".")[0].lower() for path in case.images]
    if case.kind == "lgg":
        masks = [references.get(stem) for stem in stems]
        return [mask for mask in masks if mask] if all(masks) else []
    names = (case.key.case.lower(), *stems, *(stem.rsplit("_", 1)[0] for stem in stems))
    return [references[name] for name in names if name in references][:1]


def read_reference(
    path: Path | Sequence[Path], volume: Volume, segmentation: "Segmentation"
) -> NDArray[np.bool_]:
    """Return the mask of each class [K, slice, row, col] from a NIfTI on the volume's grid, or pictures.

    Of a picture the values are numbers of classes, or 0 and one other value.

    Args:
        path: of the mask; of slices in files of their own that of each.
        volume: the case.
        segmentation: the task of the model.

    Raises:
        DataError: it is damaged, has another grid or size, or values of unknown meaning.
    """
    paths = [path] if isinstance(path, Path) else [*path]
    path = paths[0]
    if volume.orientation is not None:
        first = ImageFile(Path("the images"), volume.images[0], volume.spacing, volume.orientation, 0.0)
        file = align(first, read_nifti(path))
        labels = decode_labels(path, np.ascontiguousarray(file.array), file.step)
    else:
        values = [read_mask(each) for each in paths]
        if len({each.shape for each in values}) > 1:
            raise VolumeError(f"{path}: the masks of the slices differ in size; each has that of its slice")
        meaning = choose_labels({int(value): path for value in np.unique(values)}, None, "its values")
        labels = np.stack([decode_mask(*each, meaning) for each in zip(paths, values, strict=True)])
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
