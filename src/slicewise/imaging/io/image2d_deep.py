"""Pictures that Pillow would reduce to 8 bits or cannot open: colour of 16 bits, and rare kinds of TIFF."""

from dataclasses import dataclass
from typing import IO, Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tifffile import PHOTOMETRIC, PLANARCONFIG, TiffFile

from slicewise.imaging.io.file_format import TIFF_MAGICS

ORIENTATION: Final = 274
"""Tag of EXIF and TIFF."""
BITS: Final = 258
_SAMPLES, _FORMAT = 277, 339
_UNSIGNED, _SIGNED = 1, 2


@dataclass(frozen=True)
class TiffHeader:
    """Size and orientation of a TIFF's first page, and the number of pages."""

    size: tuple[int, int]
    """(width, height) as stored."""
    num_pages: int
    orientation: int


def is_tiff(source: IO[bytes]) -> bool:
    source.seek(0)
    return source.read(4) in TIFF_MAGICS


def loses_depth(image: Image.Image) -> bool:
    """Return whether Pillow, which has opened this picture, would decode fewer bits than the file holds."""
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]  # of TiffImageFile
        bits, kind = max(tags.get(BITS, (1,))), tags.get(_FORMAT, (_UNSIGNED,))[0]
        if bits > 8 and tags.get(_SAMPLES, 1) > 1:
            return True
        return (bits, kind) in ((8, _SIGNED), (32, _UNSIGNED))
    if image.format in ("JPEG2000", "PPM"):
        return image.mode in ("RGB", "RGBA", "LA")
    return any(";16" in str(tile[3]) for tile in image.tile)  # type: ignore[attr-defined]  # of ImageFile


def decode(source: IO[bytes]) -> NDArray[Any]:
    """Return a picture as it is stored: [row, col] or [row, col, channel], colours as RGB or RGBA.

    Raises:
        ValueError: it cannot be decoded; a damaged file raises other errors of the decoders, too.
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
        size = (page.imagewidth, page.imagelength)
        return TiffHeader(size, len(file.pages), 1 if tag is None else tag.value)


def invert_white(pixels: NDArray[Any], bits: int | None = None) -> NDArray[Any]:
    """Return the inverted pixels of a picture in which 0 is white (TIFF 6.0)."""
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
    """Return stored pixels upright (EXIF 2.3, tag 274)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
