"""Slices of a volume, and masks over them, as pictures for the screen in true proportions (no Matplotlib)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from slicewise.domain.labels import COLOURS
from slicewise.imaging.volume import Volume
from slicewise.inference.prediction import Prediction
from slicewise.plots.overlay import TRUTH, Colour, grey, overlay, overlay_saliency, tile

_DISPLAY_ORDER: Final = ("flair", "t1ce", "t2", "t1")
"""A tumour with its oedema shows best on FLAIR."""
_WINDOW_PERCENTILES: Final = (1.0, 99.5)
_SAMPLES: Final = 200_000
_MIN_SIZE: Final = 512
_MAX_SIZE: Final = 1024
_MIN_FONT_SIZE: Final = 12
_MONTAGE_SIDE, _MONTAGE_COLUMNS, _MONTAGE_SLICES = 256, 5, 20

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class SliceRenderer:
    """Draws the slices of a volume, of one modality or in its colours, with one window and square pixels."""

    image: NDArray[Any]
    """[slice, row, col], or red, green and blue [slice, row, col, 3]"""
    window: tuple[float, float]
    size: tuple[int, int]
    """(width, height) in pixels, of the volume's proportions in mm and a length that suits a screen."""
    has_laterality: bool
    """Whether the patient's right side is known: it is for a volume, not for a picture."""

    @classmethod
    def of(cls, volume: Volume, side: int = _MIN_SIZE) -> Self:
        """Return what draws the slices of a volume.

        Their longer side has `side` pixels, or as many as the volume where these are more, up to 1024.
        """
        # A copy: the renderer outlives the volume, and a view would keep all modalities in memory.
        if volume.channels == COLOURS and all(volume.presence):
            image = np.moveaxis(volume.images, 0, -1).copy()
        else:
            order = sorted(volume.channels, key=[*_DISPLAY_ORDER, *volume.channels].index)
            slots = (volume.channels.index(name) for name in order)
            image = volume.images[next(slot for slot in slots if volume.presence[slot])].copy()
        _, rows, cols = volume.shape
        _, row_mm, col_mm = volume.spacing
        height, width = rows * row_mm, cols * col_mm
        scale = min(max(rows, cols, side), _MAX_SIZE) / max(height, width)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        return cls(image, _window(image), size, volume.orientation is not None)

    def render(
        self,
        index: int,
        *,
        masks: Iterable[tuple[NDArray[np.bool_], Colour]] = (),
        reference: NDArray[np.bool_] | None = None,
        saliency: NDArray[np.float32] | None = None,
    ) -> Picture:
        """Return a slice with masks and their colours, the outline of a reference, or a saliency map over it.

        These are [row, col] of the volume's grid; the saliency is 0 to 1, the outline blue.

        R and L are drawn at the sides if they are known: column 0 is the patient's right.
        """
        picture = _resize(grey(self.image[index], self.window), self.size)
        for mask, colour in masks:
            picture = overlay(picture, _resize(mask * np.uint8(255), self.size) >= 128, colour)
        if reference is not None:
            outline = _resize(reference * np.uint8(255), self.size) >= 128
            picture = overlay(picture, outline, TRUTH, opacity=0.0)
        if saliency is not None:
            picture = overlay_saliency(picture, _resize(saliency * np.float32(255), self.size) / 255)
        return _draw_side_markers(picture) if self.has_laterality else picture


def draw_prediction(
    prediction: Prediction, volume: Volume, reference: NDArray[np.bool_] | None = None
) -> Picture | None:
    """Return a picture with its mask; of a volume a montage of up to 20 slices, with masks where there are.

    The outline of a reference [slice, row, col] is drawn in blue. None if the model does not segment.
    """
    if prediction.masks is None:
        return None
    masks, colours = prediction.masks, prediction.classes.colours
    if len(volume.images[0]) == 1:
        outline = None if reference is None else reference[0]
        renderer = SliceRenderer.of(volume)
        return renderer.render(0, masks=zip(masks[:, 0], colours, strict=True), reference=outline)
    drawn = [*masks] if reference is None else [*masks, reference]
    shown = np.flatnonzero(np.any(drawn, axis=(0, 2, 3))).tolist() or prediction.slices.indices.tolist()
    number = min(len(shown), _MONTAGE_SLICES)
    indices = [shown[place] for place in np.linspace(0, len(shown) - 1, number).round().astype(int)]
    renderer = SliceRenderer.of(volume, _MONTAGE_SIDE)
    pictures = [
        renderer.render(
            each,
            masks=zip(masks[:, each], colours, strict=True),
            reference=None if reference is None else reference[each],
        )
        for each in indices
    ]
    return tile(pictures, [f"slice {each}" for each in indices], min(_MONTAGE_COLUMNS, len(indices)))


def _window(image: NDArray[Any]) -> tuple[float, float]:
    """Return the values shown as black and white: the range of colours, else percentiles of what is not 0."""
    if image.ndim == 4 and image.dtype.kind == "u":
        return 0.0, float(np.iinfo(image.dtype).max)
    sample = image.ravel()[:: max(1, image.size // _SAMPLES)].astype(np.float32)
    inside = sample[sample != 0]
    low, high = np.percentile(inside, _WINDOW_PERCENTILES) if len(inside) else (0.0, 1.0)
    return float(low), max(float(high), float(low) + 1e-6)


def _draw_side_markers(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    size = max(_MIN_FONT_SIZE, min(height, width) // 18)
    image = Image.fromarray(picture)
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(size)
    for letter, place, anchor in (("R", size // 2, "lm"), ("L", width - size // 2, "rm")):
        pen.text((place, height // 2), letter, "white", font, anchor, stroke_width=2, stroke_fill="black")
    return np.asarray(image)


def _resize(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
