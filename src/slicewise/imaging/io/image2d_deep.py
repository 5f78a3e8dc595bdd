"""Pictures that Pillow would cut to 8 bits or cannot open: colour of 16 bits, and rare kinds of TIFF."""

from dataclasses import dataclass
from typing import IO, Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tifffile import PHOTOMETRIC, PLANARCONFIG, TiffFile

ORIENTATION: Final = 274
"""EXIF and TIFF share this tag."""
_BITS, _SAMPLES, _FORMAT = 258, 277, 339
_UNSIGNED, _SIGNED = 1, 2
_TIFF_MAGICS: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class TiffHeader:
    """What a TIFF says of its first page, upright or not, and how many there are."""

    size: tuple[int, int]
    """(width, height)."""
    num_pages: int
    orientation: int


def is_tiff(source: IO[bytes]) -> bool:
    source.seek(0)
    return source.read(4) in _TIFF_MAGICS


def loses_depth(image: Image.Image) -> bool:
    """Whether Pillow, which has opened this picture, would decode less than the file holds."""
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]  # of TiffImageFile
        bits, kind = max(tags.get(_BITS, (1,))), tags.get(_FORMAT, (_UNSIGNED,))[0]
        if bits > 8 and tags.get(_SAMPLES, 1) > 1:
            return True
        return (bits, kind) in ((8, _SIGNED), (32, _UNSIGNED))
    if image.format in ("JPEG2000", "PPM"):
        return image.mode in ("RGB", "RGBA", "LA")
    return any(";16" in str(tile[3]) for tile in image.tile)  # type: ignore[attr-defined]  # of ImageFile and not image.mode.startswith("I")


def decode(source: IO[bytes]) -> NDArray[Any]:
    """Return a picture as it is stored: [row, col] or [row, col, channel], colours as RGB or RGBA.

    Raises:
        ValueError: it cannot be decoded; also whatever damage makes the decoders raise.
    """
    if not is_tiff(source):
        return _by_opencv(source)
    source.seek(0)
    with TiffFile(source) as file:
        page = file.pages.first
        try:
            pixels = np.asarray(page.asarray())
        except (ValueError, KeyError):  # a compression that tifffile leaves to another package
            if page.planarconfig == PLANARCONFIG.SEPARATE:
                raise
            return _by_opencv(source)
        if page.planarconfig == PLANARCONFIG.SEPARATE and pixels.ndim == 3:
            pixels = np.moveaxis(pixels, 0, -1)
        return invert_white(pixels) if page.photometric == PHOTOMETRIC.MINISWHITE else pixels


def read_tiff_header(source: IO[bytes]) -> TiffHeader:
    """Read the header of a TIFF that Pillow cannot open."""
    source.seek(0)
    with TiffFile(source) as file:
        page = file.pages.first
        tag = page.tags.get(ORIENTATION)
        return TiffHeader(
            (page.imagewidth, page.imagelength), len(file.pages), 1 if tag is None else tag.value
        )


def invert_white(pixels: NDArray[Any], bits: int | None = None) -> NDArray[Any]:
    """Return the pixels of a picture in which 0 is white (TIFF 6.0) with 0 as black."""
    if pixels.dtype.kind == "u":
        most = (1 << bits) - 1 if bits else np.iinfo(pixels.dtype).max
        return np.asarray(pixels.dtype.type(most) - pixels)
    return np.asarray(-pixels.astype(np.float32))


def _by_opencv(source: IO[bytes]) -> NDArray[Any]:
    source.seek(0)
    content = np.frombuffer(source.read(), np.uint8)
    pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise ValueError("its compression is not read; save it as PNG")
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}
    return np.asarray(pixels if pixels.ndim == 2 else pixels[..., order[pixels.shape[2]]])


def apply_exif_orientation(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return stored pixels as they are to be seen (EXIF 2.3, tag 274)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
