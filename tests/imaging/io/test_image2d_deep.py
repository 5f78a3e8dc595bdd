"""The same picture in every format, depth and way of opening has the same pixels."""

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from slicewise.core.errors import PictureError
from slicewise.imaging.io.image2d import read_picture

DEEP: NDArray[np.uint16] = np.add.outer(np.arange(48) * 700, np.arange(64) * 400).astype(np.uint16)
EIGHT = (DEEP >> 8).astype(np.uint8)
OPAQUE = np.full_like(DEEP, 65535)


def tiff(pixels: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def opencv(ending: str, pixels: NDArray[Any], *options: int) -> bytes:
    return bytes(cv2.imencode(ending, pixels, options)[1])


def pillow(kind: str, image: Image.Image, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(pixels: NDArray[np.uint16], colour_type: int) -> bytes:
    """Write a PNG of 16 bits; Pillow and OpenCV write none of grey with alpha."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def rgb(pixels: NDArray[Any] = DEEP) -> NDArray[Any]:
    return np.dstack([pixels] * 3)


LZW = (cv2.IMWRITE_TIFF_COMPRESSION, 5)
GREY_OF_SIXTEEN_BITS: dict[str, Callable[[], bytes]] = {
    "grey png": lambda: png(DEEP, 0),
    "la png": lambda: png(np.dstack([DEEP, OPAQUE]), 4),
    "rgb png": lambda: png(rgb(), 2),
    "rgba png": lambda: png(np.dstack([rgb(), OPAQUE]), 6),
    "grey tiff": lambda: tiff(DEEP),
    "big-endian tiff": lambda: tiff(DEEP.astype(">u2"), byteorder=">"),
    "lzw tiff": lambda: opencv(".tif", DEEP, *LZW),
    "la tiff": lambda: tiff(np.dstack([DEEP, OPAQUE]), photometric="minisblack", planarconfig="contig",
                            extrasamples=["unassalpha"]),
    "rgb tiff": lambda: tiff(rgb(), photometric="rgb"),
    "big-endian rgb tiff": lambda: tiff(rgb().astype(">u2"), photometric="rgb", byteorder=">"),
    "deflated rgb tiff": lambda: tiff(rgb(), photometric="rgb", compression="zlib", predictor=True),
    "lzw rgb tiff": lambda: opencv(".tif", rgb(), *LZW),
    "planar rgb tiff": lambda: tiff(np.moveaxis(rgb(), -1, 0), photometric="rgb", planarconfig="separate"),
    "rgba tiff": lambda: tiff(np.dstack([rgb(), OPAQUE]), photometric="rgb", extrasamples=["unassalpha"]),
    "bigtiff": lambda: tiff(rgb(), photometric="rgb", bigtiff=True),
    "min is white": lambda: tiff(65535 - DEEP, photometric="miniswhite"),
    "deflated min is white": lambda: tiff(65535 - DEEP, photometric="miniswhite", compression="zlib"),
    "ppm": lambda: opencv(".ppm", rgb()),
}  # fmt: skip


@pytest.mark.parametrize("name", GREY_OF_SIXTEEN_BITS)
def test_sixteen_bits_are_read_at_full_depth(name: str, tmp_path: Path) -> None:
    content = GREY_OF_SIXTEEN_BITS[name]()
    (tmp_path / "x").write_bytes(content)
    for source in (tmp_path / "x", io.BytesIO(content)):
        pixels = read_picture(source).pixels
        assert pixels.dtype == np.uint16
        np.testing.assert_array_equal(pixels, DEEP)


@pytest.mark.parametrize("colour_type", [2, 6])
def test_eight_bits_in_a_file_of_sixteen_are_no_darkness(colour_type: int) -> None:
    """Each value below 256 would be cut to 0."""
    shallow = np.dstack([rgb(EIGHT.astype(np.uint16)), OPAQUE])[..., : 3 if colour_type == 2 else 4]
    np.testing.assert_array_equal(read_picture(io.BytesIO(png(shallow, colour_type))).pixels, EIGHT)


def test_colour_of_sixteen_bits_becomes_luminance() -> None:
    colours = np.dstack([DEEP, DEEP // 2, DEEP // 3])
    expected = colours @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(read_picture(io.BytesIO(png(colours, 2))).pixels, expected, atol=0.51)


@pytest.mark.parametrize(
    "pixels",
    [DEEP.astype(np.int16) - 300, DEEP.astype(np.uint32) * 60000, DEEP.astype(np.int32) - 1000,
     (DEEP >> 9).astype(np.int8) - 20, DEEP.astype(np.float32) / 7, DEEP.astype(np.float64) / 7,
     (DEEP / 70).astype(np.float16)],
)  # fmt: skip
def test_numbers_of_every_type_are_read_as_they_are(pixels: NDArray[Any]) -> None:
    found = read_picture(io.BytesIO(tiff(pixels))).pixels
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, pixels.astype(np.float32), rtol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["grey tiff", "rgb tiff of 8 bits", "rgb tiff", "min is white", "deflated"])
def test_a_turned_tiff_is_upright_however_it_is_opened(kind: str, orientation: int, tmp_path: Path) -> None:
    tag: Any = [(274, "H", 1, orientation, False)]
    content = {
        "grey tiff": lambda: tiff(EIGHT, extratags=tag),
        "rgb tiff of 8 bits": lambda: tiff(rgb(EIGHT), photometric="rgb", extratags=tag),
        "rgb tiff": lambda: tiff(rgb(), photometric="rgb", extratags=tag),
        "min is white": lambda: tiff(65535 - DEEP, photometric="miniswhite", extratags=tag),
        "deflated": lambda: tiff(EIGHT, compression="zlib", extratags=tag),
    }[kind]()
    stored = DEEP if kind in ("rgb tiff", "min is white") else EIGHT
    path = tmp_path / "turned.tif"
    path.write_bytes(content)
    for source in (path, io.BytesIO(content)):
        np.testing.assert_array_equal(read_picture(source).pixels, upright(stored, orientation))


def upright(stored: NDArray[Any], orientation: int) -> NDArray[Any]:
    return {
        1: stored, 2: np.fliplr(stored), 3: np.rot90(stored, 2), 4: np.flipud(stored), 5: stored.T,
        6: np.rot90(stored, -1), 7: np.rot90(stored, 2).T, 8: np.rot90(stored),
    }[orientation]  # fmt: skip


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_every_format_obeys_exif(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lossless = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind in ("JPEG", "AVIF") else {}
    found = read_picture(io.BytesIO(pillow(kind, Image.fromarray(EIGHT), exif=exif, **lossless))).pixels
    assert np.abs(found.astype(int) - np.rot90(EIGHT, -1)).max() <= 3


def test_deep_png_obeys_exif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    content = png(rgb(), 2)
    chunk = struct.pack(">I", len(block)) + b"eXIf" + block + struct.pack(">I", zlib.crc32(b"eXIf" + block))
    turned = content[:33] + chunk + content[33:]  # behind IHDR
    np.testing.assert_array_equal(read_picture(io.BytesIO(turned)).pixels, np.rot90(DEEP))


def test_a_mask_in_the_alpha_channel_is_ignored_and_said() -> None:
    """It would show nothing but the tumour, and give the label away."""
    alpha = np.zeros_like(DEEP)
    alpha[10:20, 10:30] = 65535
    for pixels, content in (
        (DEEP, png(np.dstack([DEEP, alpha]), 4)),
        (EIGHT, pillow("PNG", Image.fromarray(np.dstack([EIGHT, (alpha >> 8).astype(np.uint8)])))),
    ):
        picture = read_picture(io.BytesIO(content))
        np.testing.assert_array_equal(picture.pixels, pixels)
        assert "alpha channel" in picture.notes[0]


def test_transparency_without_an_image_behind_it_is_black() -> None:
    alpha = OPAQUE.copy()
    alpha[:, 32:] = 0
    white_behind = DEEP.copy()
    white_behind[:, 32:] = 65535
    picture = read_picture(io.BytesIO(png(np.dstack([white_behind, alpha]), 4)))
    assert picture.notes == ()
    assert not picture.pixels[:, 32:].any()
    np.testing.assert_array_equal(picture.pixels[:, :32], DEEP[:, :32])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_nan_is_background_and_said(bad: float) -> None:
    pixels = DEEP.astype(np.float32)
    pixels[20, 20] = bad
    picture = read_picture(io.BytesIO(tiff(pixels)))
    assert "1 of 3,072 pixels are NaN or infinite" in picture.notes[0]
    assert picture.pixels[20, 20] <= np.percentile(DEEP, 1)
    pixels[20, 20] = picture.pixels[20, 20]
    np.testing.assert_array_equal(picture.pixels, pixels)


def test_mostly_nan_is_refused() -> None:
    pixels = DEEP.astype(np.float32)
    pixels[:, 10:] = np.nan
    with pytest.raises(PictureError, match="2,592 of 3,072 pixels that are NaN or infinite; export it again"):
        read_picture(io.BytesIO(tiff(pixels)), "x.tif")


@pytest.mark.parametrize("kind", ["JPEG2000", "AVIF", "PPM", "WEBP", "GIF", "BMP"])
def test_formats_beyond_jpeg_and_png_are_read(kind: str) -> None:
    found = read_picture(io.BytesIO(pillow(kind, Image.fromarray(EIGHT)))).pixels
    assert np.abs(found.astype(int) - EIGHT).max() < 30
    assert np.abs(found.astype(int) - EIGHT).mean() < 4


def test_jpeg_2000_is_read_at_full_depth() -> None:
    large = np.tile(DEEP, (4, 4))
    content = opencv(".jp2", rgb(large), cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000)
    found = read_picture(io.BytesIO(content)).pixels
    assert found.dtype == np.uint16
    assert np.abs(found.astype(int) - large).max() < 300


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "1", "P", "RGB"])
def test_colour_modes_of_one_grey_picture_agree(mode: str) -> None:
    grey = Image.fromarray(EIGHT if mode != "1" else np.where(EIGHT > 100, 255, 0).astype(np.uint8))
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    coloured = grey if mode == "P" else grey.convert("RGB")
    found = read_picture(io.BytesIO(pillow(kind, coloured.convert(mode)))).pixels
    assert np.abs(found.astype(int) - np.asarray(grey)).max() <= 3


def test_pages_of_a_rare_tiff_are_refused_too() -> None:
    with pytest.raises(PictureError, match="holds 2 pages"):
        read_picture(
            io.BytesIO(tiff(np.stack([DEEP, DEEP]).astype(np.float64), photometric="minisblack")), "x"
        )
