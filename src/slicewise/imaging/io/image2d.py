"""One picture, a file or an upload, in grey or colour, whatever its format, depth and name.

Pillow reads most of them; tifffile and OpenCV (extra `pipeline`) colour of 16 bits and rare kinds of TIFF.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from slicewise.core.errors import PictureError, SliceWiseError
from slicewise.core.packages import explain_missing
from slicewise.imaging.io.file_format import HEAD_BYTES, PICTURES, TIFF_MAGICS, explain_unread, is_picture

MIN_SIDE: Final = 16
MAX_PIXELS: Final = 1 << 26
FORMATS: Final = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP", "AVIF", "JPEG2000", "PPM")
"""Formats that Pillow may try; it would pass PostScript, say, to an interpreter."""
_SMALL: Final = 6
"""Level of compression of zlib"""
_LUMA: Final = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""
_ORIENTATION, _BITS, _PHOTOMETRIC, _CHANNELS, _SAMPLE_FORMAT = 274, 258, 262, 277, 339
"""Tags of TIFF, the first one also of EXIF."""
_MIN_IS_WHITE, _UNSIGNED, _SIGNED = 0, 1, 2
_MAX_NAN_SHARE = 0.5
"""At most this share of a picture may be NaN."""
_SAMPLED_SIDE, _COLOURED = 256, 0.12
"""Pixels along the longer side in which colours are counted, and their least difference, a share of white"""
_HIDDEN_VALUES, _HIDDEN_SHARE = 16, 0.02
"""An alpha channel that hides so many different grey values, in so much of a picture, is no transparency."""


@dataclass(frozen=True)
class Picture:
    """A picture, upright, with notes on oddities of its file."""

    pixels: NDArray[Any]
    """[row, col], or red, green and blue [row, col, 3]"""
    notes: tuple[str, ...] = ()
    colour: float = 0.0
    """Share of the pixels of the file that are clearly not grey"""


@contextmanager
def open_picture(
    source: Path | IO[bytes], formats: tuple[str, ...] = FORMATS, name: str | None = None
) -> Iterator[Image.Image]:
    """Open a picture of an accepted size; its pixels are decoded on demand in the block.

    Raises:
        PictureError: it is no picture, damaged, larger than 64 megapixels or smaller than 16 x 16; errors of
            decoding in the block are translated likewise.
    """
    label = name or str(source)
    with _translate_errors(label), _stream(source) as stream:
        try:
            image = Image.open(stream, formats=formats)
        except UnidentifiedImageError as error:
            stream.seek(0)
            head = stream.read(HEAD_BYTES)
            fault = f"is not a picture that is read ({explain_unread(head)}); {PICTURES} are"
            if is_picture(head):
                fault = "is a damaged picture, or of an unsupported kind (JPEG of 12 bits); save it as PNG"
            raise PictureError(f"{label} {fault}") from error
        with image:
            _check_size(label, image.size)
            yield image


def read_picture(source: Path | IO[bytes], name: str | None = None, *, colour: bool = False) -> Picture:
    """Read a picture as [row, col], upright; messages call an open file `name`.

    Colour becomes luminance (ITU-R BT.601), or with `colour` stays: [row, col, 3]. Transparent pixels become
    black, unless they hide an image. 8-bit files give uint8, 16-bit files uint16, others float32, in which
    NaN and infinity become the darkest value.

    Raises:
        PictureError: it is no picture or several, damaged, larger than 64 megapixels, smaller than 16 x 16,
            uniform, or mostly NaN.
    """
    label = name or str(source)
    with _translate_errors(label), _stream(source) as stream:
        if _is_tiff(stream) and not _pillow_opens(stream):
            from tifffile import TiffFile

            stream.seek(0)
            with TiffFile(stream) as file:
                page = file.pages.first
                _check_size(label, (page.imagewidth, page.imagelength))
                _require_one_page(label, len(file.pages))
                tag = page.tags.get(_ORIENTATION)
            picture = _read_deep(stream, 1 if tag is None else tag.value, colour=colour)
        else:
            stream.seek(0)
            with open_picture(stream, name=label) as image:
                # Later pictures of a JPEG are previews of the first, added by cameras and phones (MPO).
                is_jpeg = image.format in ("JPEG", "MPO")
                _require_one_page(label, 1 if is_jpeg else getattr(image, "n_frames", 1))
                picture = _read(image, stream, colour=colour)
    picture = _without_nan(label, picture)
    if picture.pixels.min() == picture.pixels.max():
        raise PictureError(
            f"{label} shows nothing: every pixel is {picture.pixels.flat[0]}; export it again or leave it out"
        )
    return picture


def _read(image: Image.Image, stream: IO[bytes], *, colour: bool) -> Picture:
    if _loses_depth(image):
        return _read_deep(stream, image.getexif().get(_ORIENTATION, 1), colour=colour)
    white = image.format == "TIFF" and image.tag_v2.get(_PHOTOMETRIC) == _MIN_IS_WHITE  # type: ignore[attr-defined]
    bits = max(image.tag_v2.get(_BITS, (1,))) if white else 0  # type: ignore[attr-defined]
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I;16"):
        pixels = np.asarray(upright).astype(np.uint16)
        if white:
            pixels = _invert_white(pixels, bits)
        clear = upright.info.get("transparency")
        return Picture(np.where(pixels == clear, np.uint16(0), pixels) if isinstance(clear, int) else pixels)
    if upright.mode in ("I", "F"):
        return Picture(np.asarray(upright, np.float32))
    is_grey = upright.mode in ("1", "L", "LA", "La")
    coloured = 0.0 if is_grey else _colour_share(_sample(upright))
    mode = "RGB" if colour and not is_grey else "L"
    if upright.mode in ("P", "PA", "LA", "La", "RGBA", "RGBa") or "transparency" in upright.info:
        rgba = upright.convert("RGBA")
        opaque = rgba.convert("RGB").convert(mode)
        notes = _alpha_notes(np.asarray(opaque.convert("L")), np.asarray(rgba.getchannel("A")))
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        shown = opaque if notes else Image.alpha_composite(black, rgba).convert(mode)
        return Picture(np.asarray(shown), notes, coloured)
    return Picture(np.asarray(upright.convert(mode)), (), coloured)


def _sample(image: Image.Image) -> NDArray[np.uint8]:
    """Return some of the pixels [row, col, 3]."""
    step = max(1, max(image.size) // _SAMPLED_SIDE)
    size = max(1, image.width // step), max(1, image.height // step)
    return np.asarray(image.resize(size, Image.Resampling.NEAREST).convert("RGB"))


def _colour_share(colours: NDArray[Any]) -> float:
    """Return the share of pixels [row, col, 3] whose red, green and blue differ by an eighth of the white."""
    white = max(float(np.percentile(colours, 99.5)), 1e-6)
    return float(np.mean(np.ptp(colours.astype(np.float32), axis=-1) > _COLOURED * white))


def luminance(colours: NDArray[Any]) -> NDArray[np.float64]:
    """Return the luminance [...] of red, green and blue [..., 3] (ITU-R BT.601)."""
    grey: NDArray[np.float64] = colours.astype(np.float64) @ np.array(_LUMA)
    return grey


def _read_deep(stream: IO[bytes], orientation: int, *, colour: bool) -> Picture:
    """Read a picture that Pillow cannot decode: grey, grey and alpha, RGB, or RGB and alpha."""
    pixels = _apply_exif_orientation(_decode(stream), orientation)
    if pixels.ndim == 2:
        return Picture(_to_known_dtype(pixels, pixels.dtype))
    if pixels.ndim != 3 or not 1 <= pixels.shape[2] <= 4:
        raise ValueError(f"it has {pixels.shape} values; save it as grey or RGB")
    channels = pixels.shape[2]
    grey = luminance(pixels[..., :3]) if channels > 2 else pixels[..., 0].astype(np.float64)
    shown = pixels[..., :3].astype(np.float64) if colour and channels > 2 else grey
    notes: tuple[str, ...] = ()
    if channels in (2, 4):
        alpha = pixels[..., -1]
        notes = _alpha_notes(grey, alpha)
        if not notes:
            opacity = alpha / (np.iinfo(alpha.dtype).max if alpha.dtype.kind in "iu" else 1)
            shown = shown * opacity.reshape(opacity.shape + (1,) * (shown.ndim - 2))
    step = max(1, max(pixels.shape[:2]) // _SAMPLED_SIDE)
    coloured = _colour_share(pixels[::step, ::step, :3]) if channels > 2 else 0.0
    return Picture(_to_known_dtype(shown, pixels.dtype), notes, coloured)


def _is_tiff(source: IO[bytes]) -> bool:
    source.seek(0)
    return source.read(4) in TIFF_MAGICS


def _loses_depth(image: Image.Image) -> bool:
    """Return whether Pillow, which has opened this picture, would decode fewer bits than the file holds."""
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]  # of TiffImageFile
        bits, kind = max(tags.get(_BITS, (1,))), tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0]
        if bits > 8 and tags.get(_CHANNELS, 1) > 1:
            return True
        return (bits, kind) in ((8, _SIGNED), (32, _UNSIGNED))
    if image.format in ("JPEG2000", "PPM"):
        return image.mode in ("RGB", "RGBA", "LA")
    return any(";16" in str(tile[3]) for tile in image.tile)  # type: ignore[attr-defined]  # of ImageFile


def _decode(source: IO[bytes]) -> NDArray[Any]:
    """Return a picture as it is stored: [row, col] or [row, col, channel], colours as RGB or RGBA.

    Raises:
        ValueError: it cannot be decoded; a damaged file raises other errors of the decoders, too.
    """
    if not _is_tiff(source):
        return _by_opencv(source)
    from tifffile import PHOTOMETRIC, PLANARCONFIG, TiffFile

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
        return _invert_white(pixels) if page.photometric == PHOTOMETRIC.MINISWHITE else pixels


def _invert_white(pixels: NDArray[Any], bits: int | None = None) -> NDArray[Any]:
    """Return the inverted pixels of a picture in which 0 is white (TIFF 6.0)."""
    if pixels.dtype.kind == "u":
        most = (1 << bits) - 1 if bits else np.iinfo(pixels.dtype).max
        return np.asarray(pixels.dtype.type(most) - pixels)
    return np.asarray(-pixels.astype(np.float32))


def _by_opencv(source: IO[bytes]) -> NDArray[Any]:
    import cv2

    source.seek(0)
    content = np.frombuffer(source.read(), np.uint8)
    pixels = cv2.imdecode(content, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise ValueError("its compression is not read; save it as PNG")
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}
    return np.asarray(pixels if pixels.ndim == 2 else pixels[..., order[pixels.shape[2]]])


def _apply_exif_orientation(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return stored pixels upright (EXIF 2.3, tag 274)."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _to_known_dtype(pixels: NDArray[Any], stored: np.dtype[Any]) -> NDArray[Any]:
    if stored.kind == "u" and stored.itemsize <= 2:
        whole = pixels if pixels.dtype.kind == "u" else np.rint(pixels)
        return np.ascontiguousarray(whole, stored.newbyteorder("="))
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(pixels, np.float32)


def _alpha_notes(grey: NDArray[Any], alpha: NDArray[Any]) -> tuple[str, ...]:
    """Return a note if the alpha channel masks the image; transparency hides nothing or one colour."""
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
    except ModuleNotFoundError as error:
        raise PictureError(
            f"{label} is of a kind that Pillow does not read: {explain_missing(error)}"
        ) from error
    except Exception as error:  # decoders raise whatever damage makes Python raise
        raise PictureError(f"{label} is damaged ({error}); fetch it again or leave it out") from error


def _stream(source: Path | IO[bytes]) -> Any:
    """Open a path as a stream, like an upload: Pillow memory-maps TIFFs by path, rotated ones wrongly."""
    return source.open("rb") if isinstance(source, Path) else nullcontext(source)


def _pillow_opens(stream: IO[bytes]) -> bool:
    try:
        stream.seek(0)
        Image.open(stream, formats=("TIFF",))  # and not closed: that would close the stream
    except UnidentifiedImageError:
        return False
    return True


def _check_size(label: str, size: tuple[int, int]) -> None:
    width, height = size
    if min(size) < MIN_SIDE:
        raise PictureError(
            f"{label} is {width} x {height} pixels; at least {MIN_SIDE} x {MIN_SIDE} are needed"
        )
    if width * height > MAX_PIXELS:
        raise PictureError(f"{label} is {width} x {height} pixels; scale it to less than {MAX_PIXELS:,}")


def _require_one_page(label: str, pages: int) -> None:
    if pages > 1:
        raise PictureError(f"{label} holds {pages} pages; save the wanted one as a file of its own")


def to_png(image: NDArray[np.uint8 | np.uint16], palette: Sequence[tuple[int, int, int]] = ()) -> bytes:
    """Encode a grey image of 8 or 16 bits, or RGB of 8, as PNG.

    With a palette it holds numbers: 0 is black, 1 the first colour, and so on. Readers of a palette get the
    numbers back, and viewers show the colours.
    """
    buffer, picture = io.BytesIO(), Image.fromarray(image)
    if palette:
        picture.putpalette([0, 0, 0, *(value for colour in palette for value in colour)])
    picture.save(buffer, format="PNG", compress_level=_SMALL)
    return buffer.getvalue()


def to_quick_png(picture: NDArray[np.uint8]) -> bytes:
    """Encode a grey picture, or RGB, as PNG in a third of the time: with one filter for all rows."""
    import cv2

    options = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP)
    return bytes(cv2.imencode(".png", picture if picture.ndim == 2 else picture[..., ::-1], options)[1])
