"""The same bytes give the same pixels, and the same remarks, through training, prediction and the API."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.datastructures import UploadFile
from tests.fixtures.sources import discover
from tests.imaging.io.test_image2d_deep import DEEP, EIGHT, OPAQUE, pillow, png, rgb, tiff

from slicewise.data.inputs import DefaultModalities, find_inputs
from slicewise.domain.labels import MODALITIES
from slicewise.imaging.io.image2d import read_picture
from slicewise.serving.api.input_files import InputReader
from slicewise.serving.api.uploads import UNNAMED, store_uploads


def with_nan() -> bytes:
    pixels = DEEP.astype(np.float32)
    pixels[3, 3] = np.nan
    return tiff(pixels)


PICTURES: dict[str, Callable[[], bytes]] = {
    "deep.png": lambda: png(np.dstack([rgb(), OPAQUE]), 6),
    "turned.tif": lambda: tiff(EIGHT, extratags=[(274, "H", 1, 6, False)]),
    "white.tiff": lambda: tiff(DEEP, photometric="miniswhite"),
    "nan.tif": with_nan,
    "IM0001": lambda: pillow("JPEG", Image.fromarray(EIGHT)),
    "scan.jfif": lambda: pillow("JPEG", Image.fromarray(EIGHT)),
    "scan.jpe": lambda: pillow("JPEG", Image.fromarray(EIGHT)),
    "scan.avif": lambda: pillow("AVIF", Image.fromarray(EIGHT)),
    "scan.jp2": lambda: pillow("JPEG2000", Image.fromarray(EIGHT)),
    "scan.dat": lambda: pillow("PNG", Image.fromarray(EIGHT)),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_the_same_whichever_way_it_comes(name: str, tmp_path: Path) -> None:
    content = PICTURES[name]()
    folder = tmp_path / "yes"
    folder.mkdir()
    (folder / name).write_bytes(content)
    (trained,), _ = discover("class_folders", tmp_path, "set", slot="t2")
    (by_folder,), _ = find_inputs([tmp_path], DefaultModalities(None, "t2"))
    (by_name,), _ = find_inputs([folder / name], DefaultModalities(None, "t2"))
    first, *others = (case.read() for case in (trained, by_folder, by_name))
    with store_uploads({UNNAMED: UploadFile(io.BytesIO(content), filename=name)}) as files:
        received = InputReader(MODALITIES, "t2", 64).read(files)
    assert received.notes == first.remarks
    for volume in (*others, received.volume):
        assert volume.images.dtype == first.images.dtype
        np.testing.assert_array_equal(volume.images, first.images)
    np.testing.assert_array_equal(first.images[2, 0], read_picture(io.BytesIO(content)).pixels)
