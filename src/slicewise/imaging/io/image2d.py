"""One picture file as a grey image, whatever its format, depth and name; files and uploads alike."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from slicewise.core.errors import PictureError, SliceWiseError
from slicewise.imaging.io import image2d_deep
from slicewise.imaging.io.file_format import PICTURES, explain_unread, is_picture
from slicewise.imaging.io.file_signatures import HEAD_BYTES

MIN_SIDE: Final = 16
MAX_PIXELS: Final = 1 << 26
FORMATS: Final = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "AVIF", "JPEG2000", "PPM")
"""No others are tried: Pillow would hand PostScript, say, to an interpreter."""
_LUMA: Final = (0.299, 0.587, 0.114)
"""Of red, green and blue (ITU-R BT.601)."""
_PHOTOMETRIC, _MIN_IS_WHITE = 262, 0
_BITS = 258
_MAX_NAN_SHARE = 0.5
"""At most this share of a picture may be NaN."""
_HIDDEN_VALUES, _HIDDEN_SHARE = 16, 0.02
"""An alpha channel that hides so many different grey values, in so much of a picture, is no transparency."""


@dataclass(frozen=True)
class Picture:
    """A grey picture [row, col], upright, and what is odd about its file."""

    pixels: NDArray[Any]
    notes: tuple[str, ...] = ()


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
    with _translate_errors(label), _stream(source) as stream:
        try:
            image = Image.open(stream, formats=formats)
        except UnidentifiedImageError as error:
            raise PictureError(f"{label} {_unidentified(stream)}") from error
        with image:
            _check_size(label, image.size)
            yield image


def read_grey(source: Path | IO[bytes], name: str | None = None) -> NDArray[Any]:
    """Return the pixels of `read_picture`."""
    return read_picture(source, name).pixels


def read_picture(source: Path | IO[bytes], name: str | None = None) -> Picture:
    """Read a picture as [row, col], upright.

    Colour becomes luminance (ITU-R BT.601) and what is transparent becomes black, unless it hides an image.
    8-bit files give uint8, 16-bit files uint16, others float32, in which NaN and infinity become the darkest
    value.

    Args:
        source: a file, or an open one.
        name: what to call an open file in messages.

    Raises:
        PictureError: it is no picture or several, damaged, larger than 64 megapixels, smaller than 16 x 16,
            uniform, or mostly NaN.
    """
    label = name or str(source)
    with _translate_errors(label), _stream(source) as stream:
        if image2d_deep.is_tiff(stream) and not _pillow_opens(stream):
            picture = _read_rare_tiff(label, stream)
        else:
            stream.seek(0)
            with open_picture(stream, name=label) as image:
                _require_one_page(label, image)
                picture = _read(image, stream)
    return _require_contents(label, _without_nan(label, picture))


def _read(image: Image.Image, stream: IO[bytes]) -> Picture:
    if image2d_deep.loses_depth(image):
        orientation = image.getexif().get(image2d_deep.ORIENTATION, 1)
        return _to_grey(image2d_deep.apply_exif_orientation(image2d_deep.decode(stream), orientation))
    white = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _MIN_IS_WHITE  # type: ignore[attr-defined]
    bits = max(image.tag_v2.get(_BITS, (1,))) if white else 0  # type: ignore[attr-defined]
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        pixels = np.asarray(upright).astype(np.uint16)
        if white:
            pixels = image2d_deep.invert_white(pixels, bits)
        clear = upright.info.get("transparency")
        return Picture(np.where(pixels == clear, np.uint16(0), pixels) if isinstance(clear, int) else pixels)
    if upright.mode in ("I", "F"):
        return Picture(np.asarray(upright, np.float32))
    if upright.mode in ("P", "PA", "LA", "La", "RGBA", "RGBa") or "transparency" in upright.info:
        return _over_black(upright.convert("RGBA"))
    return Picture(np.asarray(upright.convert("L")))


def _over_black(image: Image.Image) -> Picture:
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    opaque = image.convert("RGB").convert("L")
    notes = _alpha_notes(np.asarray(opaque), np.asarray(image.getchannel("A")))
    grey = opaque if notes else Image.alpha_composite(black, image).convert("L")
    return Picture(np.asarray(grey), notes)


def _read_rare_tiff(label: str, stream: IO[bytes]) -> Picture:
    header = image2d_deep.read_tiff_header(stream)
    _check_size(label, header.size)
    _require_pages(label, header.num_pages)
    return _to_grey(image2d_deep.apply_exif_orientation(image2d_deep.decode(stream), header.orientation))


def _to_grey(pixels: NDArray[Any]) -> Picture:
    """Return [row, col] of [row, col] or [row, col, channel]: grey, grey and alpha, RGB, or RGB and alpha."""
    if pixels.ndim == 2:
        return Picture(_to_known_dtype(pixels, pixels.dtype))
    if pixels.ndim != 3 or not 1 <= pixels.shape[2] <= 4:
        raise ValueError(f"it has {pixels.shape} values; save it as grey or RGB")
    channels = pixels.shape[2]
    colours = pixels[..., : 3 if channels > 2 else 1].astype(np.float64)
    grey = colours @ np.array(_LUMA) if channels > 2 else colours[..., 0]
    notes: tuple[str, ...] = ()
    if channels in (2, 4):
        alpha = pixels[..., -1]
        notes = _alpha_notes(grey, alpha)
        if not notes:
            grey *= alpha / (np.iinfo(alpha.dtype).max if alpha.dtype.kind in "iu" else 1)
    return Picture(_to_known_dtype(grey, pixels.dtype), notes)


def _to_known_dtype(pixels: NDArray[Any], stored: np.dtype[Any]) -> NDArray[Any]:
    if stored.kind == "u" and stored.itemsize <= 2:
        whole = pixels if pixels.dtype.kind == "u" else np.rint(pixels)
        return np.ascontiguousarray(whole, stored.newbyteorder("="))
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(pixels, np.float32)


def _alpha_notes(grey: NDArray[Any], alpha: NDArray[Any]) -> tuple[str, ...]:
    """Tell transparency, which hides nothing or one colour, from a mask that is laid over an image."""
    hidden = grey[alpha == 0]
    if len(hidden) < _HIDDEN_SHARE * grey.size or len(np.unique(hidden)) < _HIDDEN_VALUES:
        return ()
    return ("its alpha channel hides a part of the image, as a mask does; the whole image is used",)


def _without_nan(label: str, picture: Picture) -> Picture:
    if picture.pixels.dtype != np.float32 or (finite := np.isfinite(picture.pixels)).all():
        return picture
    num_bad = finite.size - np.count_nonzero(finite)
    if num_bad > _MAX_NAN_SHARE * finite.size:
        raise PictureError(
            f"{label} has {num_bad:,} of {finite.size:,} pixels that are NaN or infinite; export it again"
        )
    darkest = np.percentile(picture.pixels[finite], 0.5)
    note = f"{num_bad:,} of {finite.size:,} pixels are NaN or infinite and count as background"
    return Picture(np.where(finite, picture.pixels, np.float32(darkest)), (*picture.notes, note))


def _require_contents(label: str, picture: Picture) -> Picture:
    if picture.pixels.min() == picture.pixels.max():
        raise PictureError(
            f"{label} shows nothing: every pixel is {picture.pixels.flat[0]}; export it again or leave it out"
        )
    return picture


@contextmanager
def _translate_errors(label: str) -> Iterator[None]:
    try:
        yield
    except SliceWiseError:
        raise
    except FileNotFoundError as error:
        raise PictureError(f"{label} does not exist; was it moved?") from error
    except Image.DecompressionBombError as error:
        raise PictureError(f"{label} is larger than {MAX_PIXELS:,} pixels; scale it down") from error
    except Exception as error:  # decoders raise whatever damage makes Python raise
        raise PictureError(f"{label} is damaged ({error}); fetch it again or leave it out") from error


def _stream(source: Path | IO[bytes]) -> Any:
    """Open a path as an upload is opened: Pillow maps TIFFs with a path to memory, turned ones wrongly."""
    return source.open("rb") if isinstance(source, Path) else nullcontext(source)


def _pillow_opens(stream: IO[bytes]) -> bool:
    try:
        stream.seek(0)
        Image.open(stream, formats=("TIFF",))  # and not closed: that would close the stream
    except UnidentifiedImageError:
        return False
    return True


def _unidentified(stream: IO[bytes]) -> str:
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    if is_picture(head):
        return "is a damaged picture, or of a kind that is not read (JPEG of 12 bits); save it as PNG"
    return f"is not a picture that is read ({explain_unread(head)}); {PICTURES} are"


def _check_size(label: str, size: tuple[int, int]) -> None:
    width, height = size
    if min(size) < MIN_SIDE:
        raise PictureError(
            f"{label} is {width} x {height} pixels; at least {MIN_SIDE} x {MIN_SIDE} are needed"
        )
    if width * height > MAX_PIXELS:
        raise PictureError(f"{label} is {width} x {height} pixels; scale it to less than {MAX_PIXELS:,}")


def _require_one_page(label: str, image: Image.Image) -> None:
    """Refuse a stack: of its pages one would be examined, and the report could not say which."""
    # What follows the first picture of a JPEG is a preview of it, which cameras and phones add (MPO).
    _require_pages(label, 1 if image.format in ("JPEG", "MPO") else getattr(image, "n_frames", 1))


def _require_pages(label: str, pages: int) -> None:
    if pages > 1:
        raise PictureError(f"{label} holds {pages} pages; save the one that is wanted as a file of its own")
