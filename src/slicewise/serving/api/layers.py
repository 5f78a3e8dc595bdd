"""Pictures and files of a finding: slices with layers over them as PNG, maps and images as NIfTI."""

from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.imaging.io.image2d import to_png, to_quick_png
from slicewise.imaging.io.nifti import nifti_bytes
from slicewise.imaging.orientation import Orientation
from slicewise.imaging.slicing import restore_to_volume
from slicewise.imaging.volume import array_orientation
from slicewise.inference.pipeline import Pipeline
from slicewise.inference.prediction import Prediction
from slicewise.inference.uncertainty import Spread
from slicewise.plots.slices import Picture
from slicewise.serving.api.findings import Finding
from slicewise.serving.api.model_queue import ModelQueue
from slicewise.serving.api.problems import RequestError

Layer = Literal["plain", "overlay", "gradcam"]
_MAX_UINT8: Final = 255
_INT16: Final = np.iinfo(np.int16)


class LayerRenderer:
    """Draws findings of one model, in whose queue it computes saliency maps."""

    def __init__(self, pipeline: Pipeline, queue: ModelQueue, num_threads: int) -> None:
        self._pipeline, self._queue, self._num_threads = pipeline, queue, num_threads

    def draw(self, finding: Finding, index: int, layer: Layer) -> Picture | None:
        """Return a slice with a layer; None if the model lacks the task of the layer."""
        prediction, renderer = finding.prediction, finding.renderer
        if layer == "overlay":
            if prediction.masks is None:
                return None
            masks = zip(prediction.masks[:, index], prediction.classes.colours, strict=True)
            return renderer.render(index, masks=masks)
        if layer == "gradcam":
            if prediction.slice_calls is None:
                return None
            return renderer.render(index, saliency=self._saliency(prediction, index, prediction.slice_calls))
        return renderer.render(index)

    def slice_png(self, finding: Finding, index: int, layer: Layer) -> bytes:
        """Return one slice as PNG.

        Raises:
            RequestError: 404, there is no such slice or layer.
        """
        last = len(finding.renderer.image) - 1
        if not 0 <= index <= last:
            raise RequestError(404, f"there is no slice {index}; the slices are 0 to {last}")
        picture = self.draw(finding, index, layer)
        if picture is None:
            raise no_task(SEGMENTATION if layer == "overlay" else CLASSIFICATION, "this layer")
        return to_quick_png(picture)

    def _saliency(self, prediction: Prediction, index: int, called: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the Grad-CAM of a slice, [row, col] of 0 to 1; zero where the slice is not called a tumour.

        Grad-CAM is scaled to the maximum of its slice: without a tumour, this maximum means nothing. With
        several classes it is that of the called one.
        """
        several = prediction.slice_classes.several
        slices = prediction.slices
        activation = np.zeros(slices.images[:, 0].shape, dtype=np.float32)
        selected = np.flatnonzero((slices.indices == index) & (bool(several) | (called > 0)))
        if len(selected):
            images = slices.images[selected]
            targets = called[selected].tolist() if several else None
            inside = np.any(images != 0, axis=1)
            activation[selected] = self.compute_gradcam(
                images, slices.presence, inside=inside, targets=targets
            )
        restored: NDArray[np.float32] = restore_to_volume(activation, slices.geometry)[index]
        return restored

    def compute_gradcam(
        self, images: NDArray[np.floating], presence: ArrayLike, **options: Any
    ) -> NDArray[np.float32]:
        """Return saliency maps, computed in the thread of the model; see `explain.cam.compute_gradcam`.

        The first call imports torch, and loads the model where a graph predicts: not in that thread, so that
        predictions go on.
        """
        from slicewise.compute.threads import Threads
        from slicewise.explain.cam import compute_gradcam

        model = self._pipeline.model

        def compute() -> NDArray[np.float32]:
            with Threads.for_short_work(self._num_threads, "Grad-CAM"):
                return compute_gradcam(model, images, presence, **options)

        return self._queue.call(compute)


def no_task(task: str, what: str) -> RequestError:
    """Return the error for something of a task that the model does not have."""
    return RequestError(404, f"the model has no {task}; {what} is not available")


def mask_nifti(finding: Finding) -> bytes:
    """Return the mask as .nii.gz on the grid of the images, the number of the class in each voxel.

    Raises:
        RequestError: 404, the model has no segmentation.
    """
    numbers = finding.prediction.class_numbers
    if numbers is None:
        raise no_task(SEGMENTATION, "a mask")
    return nifti_bytes(numbers, _grid(finding), compressed=True)


def probability_nifti(finding: Finding, name: str | None) -> bytes:
    """Return the probability of a class of pixels likewise: 0 to 255 with the slope 1/255.

    Raises:
        RequestError: 404, the model has no segmentation or no class of this name.
    """
    values = np.rint(_probability(finding, name) * _MAX_UINT8).astype(np.uint8)
    return nifti_bytes(values, _grid(finding), compressed=True, slope=1 / _MAX_UINT8)


def image_nifti(finding: Finding, channel: str) -> bytes:
    """Return a channel of the images as it was read, as uint8 or int16 with a slope where it is needed.

    Raises:
        RequestError: 404, it was not sent.
    """
    volume = finding.volume
    sent = [name for name, here in zip(volume.channels, volume.presence, strict=True) if here]
    if channel not in sent:
        raise RequestError(404, f"there is no channel {channel}; this result has {', '.join(sent)}")
    values, slope, intercept = _as_integers(volume.images[volume.channels.index(channel)])
    return nifti_bytes(values, _grid(finding), compressed=True, slope=slope, intercept=intercept)


def truth_nifti(finding: Finding) -> bytes:
    """Return the reference mask that was sent with the images.

    Raises:
        RequestError: 404, none was sent.
    """
    if finding.truth is None:
        raise RequestError(404, "no reference was sent with these images, as the form field `truth`")
    numbers = finding.prediction.classes.numbers(finding.truth)
    return nifti_bytes(numbers, _grid(finding), compressed=True)


def dicom_seg(finding: Finding) -> bytes:
    """Return the mask as DICOM-SEG that refers to the series that were sent.

    Raises:
        RequestError: 404, they were no DICOM.
    """
    if finding.dicom_seg is None:
        raise RequestError(404, "a DICOM-SEG refers to DICOM series, and this result is of other files")
    return finding.dicom_seg


def picture_png(finding: Finding, what: Literal["image", "mask", "probability"], name: str | None) -> bytes:
    """Return what belongs to a picture, in its size: as read, its mask, or a probability of 0 to 255.

    Raises:
        RequestError: 404, it is that of a volume, or the model has no segmentation or no such class.
    """
    if not finding.inputs.is_picture:
        raise RequestError(404, f"this is the result of a volume; its {what} is NIfTI, see `image_urls`")
    if what == "probability":
        return to_png(np.rint(_probability(finding, name)[0] * _MAX_UINT8).astype(np.uint8))
    if what == "mask":
        return mask_png(finding.prediction)
    return to_png(_as_picture(finding))


def mask_png(prediction: Prediction) -> bytes:
    """Return the mask of a picture: 255 is the only class; of several the numbers, with their colours.

    Raises:
        RequestError: 404, the model has no segmentation.
    """
    numbers = prediction.class_numbers
    if numbers is None:
        raise no_task(SEGMENTATION, "a mask")
    if not prediction.classes.several:
        return to_png(numbers[0] * np.uint8(_MAX_UINT8))
    return to_png(numbers[0], prediction.classes.colours)


def deviation_map(finding: Finding, spread: Spread) -> bytes:
    """Return the standard deviation of the probability, the largest of all classes, over the passes.

    0 to 255 is a deviation of 0 to 1: of a picture as PNG, of a volume as NIfTI with the slope 1/255.
    """
    assert spread.mask_deviation is not None
    largest = restore_to_volume(spread.mask_deviation.max(axis=1), finding.prediction.slices.geometry)
    values = np.rint(largest * _MAX_UINT8).astype(np.uint8)
    if finding.inputs.is_picture:
        return to_png(values[0])
    return nifti_bytes(values, _grid(finding), compressed=True, slope=1 / _MAX_UINT8)


def _probability(finding: Finding, name: str | None) -> NDArray[np.float32]:
    """Return [slice, row, col] the probability of a class, or without a name the largest of all classes."""
    maps, names = finding.prediction.probability_maps, finding.prediction.classes.names
    if maps is None:
        raise no_task(SEGMENTATION, "a probability map")
    if name is None:
        largest: NDArray[np.float32] = maps.max(axis=0)
        return largest
    if name not in names:
        raise RequestError(404, f"there is no class {name}; the classes are {', '.join(names)}")
    chosen: NDArray[np.float32] = maps[names.index(name)]
    return chosen


def _grid(finding: Finding) -> Orientation:
    """Return the grid of the files, or one of their spacing for a stack of pictures."""
    volume = finding.volume
    return volume.orientation or array_orientation(volume.shape, volume.spacing)


def _as_picture(finding: Finding) -> NDArray[Any]:
    """Return the picture in 8 or 16 bits: grey [row, col], or red, green and blue of 8 bits [row, col, 3]."""
    volume = finding.volume
    channels = [image[0] for image, here in zip(volume.images, volume.presence, strict=True) if here]
    stacked: NDArray[Any] = np.stack(channels[:3], axis=-1) if len(channels) >= 3 else channels[0]
    if stacked.dtype == np.uint8 or (stacked.dtype == np.uint16 and stacked.ndim == 2):
        return stacked
    low, high = float(stacked.min()), float(stacked.max())
    scale = _MAX_UINT8 / max(high - low, 1e-6)
    return np.asarray(np.rint((stacked.astype(np.float32) - low) * scale), np.uint8)


def _as_integers(image: NDArray[Any]) -> tuple[NDArray[Any], float, float]:
    """Return an image as uint8 or int16, and the slope and intercept that give back its values."""
    if image.dtype == np.uint8 or image.dtype == np.int16:
        return image, 1.0, 0.0
    low, high = float(image.min()), float(image.max())
    if image.dtype.kind == "u" and high <= _INT16.max:
        return image.astype(np.int16), 1.0, 0.0
    slope = max(high - low, 1e-6) / (_INT16.max - _INT16.min)
    values = np.rint((image.astype(np.float64) - low) / slope) + _INT16.min
    return values.astype(np.int16), slope, low - slope * _INT16.min
