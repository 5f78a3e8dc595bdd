"""One picture file as a grey image."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from slicewise.core.errors import PictureError, SliceWiseError

MIN_SIDE: Final = 16
MAX_PIXELS: Final = 1 << 26
FORMATS: Final = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP")
"""No others are tried: Pillow would hand PostScript, say, to an interpreter."""


@contextmanager
def open_picture(
    source: Path | IO[bytes], formats: tuple[str, ...] = FORMATS, name: str | None = None
) -> Iterator[Image.Image]:
    """Open a picture of a sane size; its pixels are decoded when the block asks for them.

    Raises:
        PictureError: it is no picture, damaged, larger than 64 megapixels or smaller than 16 x 16; also in
            place of what decoding raises in the block.
    """
    label = name or str(source)
    try:
        with Image.open(source, formats=formats) as image:
            _check_size(label, image.size)
            yield image
    except SliceWiseError:
        raise
    except UnidentifiedImageError as error:
        raise PictureError(
            f"{label} is not a picture; JPEG, PNG, TIFF, BMP, GIF and WebP can be read"
        ) from error
    except Exception as error:  # Pillow's decoders raise whatever damage makes Python raise
        raise PictureError(f"{label} is damaged ({error}); fetch it again or delete it") from error


def read_grey(source: Path | IO[bytes], name: str | None = None) -> NDArray[Any]:
    """Read a picture as [row, col], upright.

    Colour becomes luminance (ITU-R BT.601) and what is transparent becomes black. 8-bit files give uint8,
    16-bit files uint16, others float32.

    Args:
        source: a file, or an open one.
        name: what to call an open file in messages.

    Raises:
        PictureError: it is no picture or several, damaged, larger than 64 megapixels, smaller than 16 x 16,
            or uniform.
    """
    label = name or str(source)
    with open_picture(source, name=name) as image:
        _require_one_page(label, image)
        pixels = _to_grey(ImageOps.exif_transpose(image))
    low, high = float(pixels.min()), float(pixels.max())
    if low == high or not math.isfinite(high - low):
        raise PictureError(f"{label} shows nothing: every pixel is {pixels.flat[0]}; delete it")
    return pixels


def _check_size(label: str, size: tuple[int, int]) -> None:
    width, height = size
    if min(size) < MIN_SIDE:
        raise PictureError(
            f"{label} is {width} x {height} pixels; at least {MIN_SIDE} x {MIN_SIDE} are needed"
        )
    if width * height > MAX_PIXELS:
        raise PictureError(f"{label} is {width} x {height} pixels; scale it to less than {MAX_PIXELS:,}")


def _require_one_page(label: str, image: Image.Image) -> None:
    """Refuse a stack: of its pages one would be examined, and nobody would know which."""
    # What follows the first picture of a JPEG is a preview of it, which cameras and phones add (MPO).
    pages = 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1)
    if pages > 1:
        raise PictureError(f"{label} holds {pages} pages; save the one that is wanted as a file of its own")


def _to_grey(image: Image.Image) -> NDArray[Any]:
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F"):
        return np.asarray(image, np.float32)
    if image.mode in ("P", "PA", "LA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        colour = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), colour)
    return np.asarray(image.convert("L"))
