"""One picture file as a grey image."""

import struct
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from slicewise.core.errors import PictureError

MIN_SIDE: Final = 16
MAX_PIXELS: Final = 1 << 26
_DAMAGE: Final = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    OverflowError,
    ZeroDivisionError,
    NotImplementedError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow's decoders raise on damaged files."""


def read_grey(source: Path | IO[bytes], name: str | None = None) -> NDArray[Any]:
    """Read the first frame of a picture as [row, col], upright.

    Colour becomes luminance (ITU-R BT.601) and what is transparent becomes black. 8-bit files give uint8,
    16-bit files uint16, others float32.

    Args:
        source: a file, or an open one.
        name: what to call an open file in messages.

    Raises:
        PictureError: it is no picture, damaged, larger than 64 megapixels, smaller than 16 x 16, or uniform.
    """
    label = name or str(source)
    try:
        with Image.open(source) as image:
            _check_size(label, image.size)
            pixels = _to_grey(ImageOps.exif_transpose(image))
    except UnidentifiedImageError as error:
        raise PictureError(
            f"{label} is not a picture; JPEG, PNG, TIFF, BMP, GIF and WebP can be read"
        ) from error
    except _DAMAGE as error:
        raise PictureError(f"{label} is damaged ({error}); fetch it again or delete it") from error
    if pixels.min() == pixels.max() or not np.isfinite(pixels).all():
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


def _to_grey(image: Image.Image) -> NDArray[Any]:
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode in ("I", "F"):
        return np.asarray(image, np.float32)
    if image.mode in ("P", "PA", "LA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        colour = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), colour)
    return np.asarray(image.convert("L"))
