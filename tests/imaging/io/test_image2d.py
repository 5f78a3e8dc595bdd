import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from slicewise.core.errors import PictureError
from slicewise.imaging.io.image2d import read_picture

RAMP = np.add.outer(np.arange(24, dtype=np.uint8) * 4, np.arange(32, dtype=np.uint8) * 3)


def encode(image: Image.Image, kind: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
def test_every_mode_of_a_grey_picture_reads_the_same(mode: str) -> None:
    pixels = read_picture(io.BytesIO(encode(Image.fromarray(RAMP).convert(mode), "PNG"))).pixels
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, RAMP)


def test_a_palette_and_a_bitmap_are_read() -> None:
    palette = Image.fromarray(RAMP).convert("P")
    assert np.abs(read_picture(io.BytesIO(encode(palette, "PNG"))).pixels.astype(int) - RAMP).max() <= 1
    bitmap = Image.fromarray(RAMP).convert("1")
    assert set(np.unique(read_picture(io.BytesIO(encode(bitmap, "PNG"))).pixels)) == {0, 255}


def test_sixteen_bits_are_kept() -> None:
    deep = RAMP.astype(np.uint16) * 200
    pixels = read_picture(io.BytesIO(encode(Image.fromarray(deep), "PNG"))).pixels
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels, deep)


def test_what_is_transparent_is_black() -> None:
    image = Image.new("RGBA", (32, 24), (255, 255, 255, 0))
    image.paste((200, 200, 200, 255), (0, 0, 16, 24))
    pixels = read_picture(io.BytesIO(encode(image, "PNG"))).pixels
    assert (pixels[:, :16] == 200).all()
    assert not pixels[:, 16:].any()


def test_pictures_stand_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(RAMP).save(buffer, "PNG", exif=exif)
    np.testing.assert_array_equal(read_picture(buffer).pixels, np.rot90(RAMP, -1))


def pages(kind: str) -> bytes:
    first, *others = (Image.fromarray(np.roll(RAMP, 5 * number)) for number in range(3))
    buffer = io.BytesIO()
    first.save(buffer, kind, save_all=True, append_images=others)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "PNG"])
def test_of_several_pages_none_is_chosen(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    path.write_bytes(pages(kind))
    with pytest.raises(PictureError, match=r"stack\.tif holds 3 pages; save the wanted one"):
        read_picture(path)


def test_the_preview_behind_a_jpeg_is_no_page() -> None:
    plain = read_picture(io.BytesIO(encode(Image.fromarray(RAMP), "JPEG"))).pixels
    np.testing.assert_array_equal(read_picture(io.BytesIO(pages("MPO"))).pixels, plain)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a picture"),
        (b"text", "not a picture"),
        (encode(Image.new("L", (15, 40), 3), "PNG"), "15 x 40 pixels; at least"),
        (encode(Image.new("L", (32, 32), 7), "PNG"), "shows nothing: every pixel is 7"),
        (encode(Image.fromarray(RAMP), "PNG")[:-40], "damaged"),
    ],
)
def test_what_cannot_be_used_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(content)
    with pytest.raises(PictureError, match=rf"x\.jpg .*{message}"):
        read_picture(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PictureError, match=r"absent\.png"):
        read_picture(tmp_path / "absent.png")


def test_a_giant_is_refused_before_it_is_unpacked() -> None:
    header = bytearray(encode(Image.new("1", (32, 32)), "BMP"))
    header[18:26] = (9000).to_bytes(4, "little") * 2
    with pytest.raises(PictureError, match="9000 x 9000"):
        read_picture(io.BytesIO(bytes(header)), "upload")


WHOLE = {kind: encode(Image.fromarray(RAMP), kind) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.data())
@pytest.mark.filterwarnings("ignore")
def test_damage_never_escapes_as_another_error(kind: str, data: st.DataObject) -> None:
    content = bytearray(WHOLE[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for damaged in (bytes(content), bytes(content[:cut])):
        with contextlib.suppress(PictureError):
            assert read_picture(io.BytesIO(damaged), "upload").pixels.ndim == 2
