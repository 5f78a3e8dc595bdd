"""Slices as pictures: grey anatomy, masks, saliency, captions; no Matplotlib.

The colours are Okabe and Ito's (2008), which stay apart for colour-blind readers and on grey. Enlarge
the image and the mask first and draw then: outlines stay crisp.
"""

from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Grey: TypeAlias = NDArray[np.uint8]
"""[row, col]"""
Rgb: TypeAlias = NDArray[np.uint8]
"""[row, col, 3]"""
Colour: TypeAlias = tuple[int, int, int]

TRUTH: Final[Colour] = (86, 180, 233)
PREDICTION: Final[Colour] = (230, 159, 0)

WINDOW: Final = (-2.0, 3.0)
"""Z-scores shown as black and white."""

_INFERNO: Final = (
    (0, 0, 4), (31, 12, 72), (85, 15, 109), (136, 34, 106), (186, 54, 85),
    (227, 89, 51), (249, 140, 10), (249, 201, 50), (252, 255, 164),
)  # fmt: skip
"""Evenly spaced anchors of a perceptually uniform colour map (Smith and van der Walt 2015)."""
_BACKGROUND: Final[Colour] = (18, 18, 18)
_TEXT: Final[Colour] = (235, 235, 235)
_GAP: Final = 8


def grey(image: NDArray[Any], window: tuple[float, float] = WINDOW) -> Grey:
    """Return a normalised slice [row, col] as grey values; exactly 0 is outside the brain and black."""
    low, high = window
    scaled = np.clip((image.astype(np.float32) - low) / (high - low), 0, 1)
    return np.where(image == 0, 0, np.rint(scaled * 255)).astype(np.uint8)


def enlarge(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize a grey or RGB image smoothly so that its longer side is `size`."""
    return np.asarray(Image.fromarray(image).resize(_fit(image, size), Image.Resampling.BICUBIC))


def enlarge_mask(mask: NDArray[Any], size: int) -> NDArray[np.bool_]:
    """Resize a mask (not 0 is inside) likewise, with a smooth outline."""
    soft = Image.fromarray((np.asarray(mask) != 0).astype(np.uint8) * 255)
    return np.asarray(soft.resize(_fit(mask, size), Image.Resampling.BILINEAR)) >= 128


def overlay(
    image: NDArray[np.uint8],
    mask: NDArray[Any],
    colour: Colour = PREDICTION,
    opacity: float = 0.25,
    outline: int = 2,
) -> Rgb:
    """Lay a mask over an image [row, col] or [row, col, 3]: translucent fill, opaque outline inside its edge.

    The mask [row, col] is inside where it is not 0; `outline` is its width in pixels, 0 for none.
    """
    inside = np.asarray(mask) != 0
    result = _rgb(image)
    result[inside] = _blend(result[inside], np.array(colour), opacity)
    core = inside
    for step in range(outline):  # four and eight neighbours by turns keep corners round
        core = _core(core, corners=step % 2 == 1)
    result[inside & ~core] = colour
    return result


def _core(mask: NDArray[np.bool_], *, corners: bool) -> NDArray[np.bool_]:
    """Return the pixels of a mask whose four neighbours, with `corners` eight, are in it as well."""
    padded = np.pad(mask, 1)
    across = padded[1:-1, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    if not corners:
        return np.asarray(across & padded[:-2, 1:-1] & padded[2:, 1:-1])
    wide = padded[:, 1:-1] & padded[:, :-2] & padded[:, 2:]
    return np.asarray(across & wide[:-2] & wide[2:])


def overlay_saliency(image: NDArray[np.uint8], saliency: NDArray[Any], opacity: float = 0.7) -> Rgb:
    """Lay a saliency map [row, col] of 0 to 1 over an image; its opacity grows with the saliency."""
    strength = np.clip(np.nan_to_num(np.asarray(saliency, np.float32)), 0, 1)
    anchors = np.linspace(0, 1, len(_INFERNO))
    colours = np.stack([np.interp(strength, anchors, channel) for channel in np.array(_INFERNO).T], axis=-1)
    return _blend(_rgb(image), colours, (opacity * strength)[..., None])


def tile(
    images: Sequence[NDArray[np.uint8]],
    captions: Sequence[str],
    columns: int | None = None,
    text_size: int = 14,
) -> Rgb:
    """Return images of one size in rows of `columns`, a caption over each."""
    columns = columns or len(images)
    height, width = images[0].shape[:2]
    font = ImageFont.load_default(text_size)
    step_x, step_y = width + _GAP, height + _GAP + round(text_size * 1.6)
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * step_x + _GAP, rows * step_y + _GAP), _BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    for position, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = _GAP + position % columns * step_x, _GAP + position // columns * step_y
        pen.text((left, top), _shortened(caption, font, width), fill=_TEXT, font=font)
        sheet.paste(Image.fromarray(_rgb(image)), (left, top + step_y - height - _GAP))
    return np.asarray(sheet)


def _fit(image: NDArray[Any], size: int) -> tuple[int, int]:
    """Return (width, height) with the longer side at `size`."""
    height, width = image.shape[:2]
    scale = size / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _rgb(image: NDArray[np.uint8]) -> Rgb:
    return np.repeat(image[..., None], 3, axis=-1) if image.ndim == 2 else image.copy()


def _blend(below: NDArray[Any], above: NDArray[Any], opacity: float | NDArray[Any]) -> NDArray[np.uint8]:
    mixed = below * (1 - opacity) + above * opacity
    return np.rint(mixed).astype(np.uint8)


def _shortened(caption: str, font: Any, width: int) -> str:
    """Cut a caption that is wider than its image."""
    text = caption
    while text and font.getlength(text if text == caption else f"{text}…") > width:
        text = text[:-1]
    return text if text == caption else f"{text}…"
