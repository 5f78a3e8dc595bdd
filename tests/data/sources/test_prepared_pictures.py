"""Pictures and masks of every form, from the file to the slices that a model is trained on."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.fixtures.sources import discover

from slicewise.config.compose import compose
from slicewise.config.schema import Preprocessing
from slicewise.data.cases import CaseFiles, check_source
from slicewise.imaging.slicing import SlicedCase, extract_slices, restore_to_volume

SHAPES: Final = ((48, 64), (64, 40), (33, 57))
"""Rows and columns of three pictures of one set"""
SIZE: Final = 64
Mask = NDArray[np.uint8]


def pixels(seed: int, rows: int, cols: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((cols, rows), Image.Resampling.BICUBIC))


def objects(rows: int, cols: int) -> Mask:
    """Class 1 above, class 2 below."""
    mask = np.zeros((rows, cols), np.uint8)
    mask[6:14, 8:30], mask[18:28, 4:20] = 1, 2
    return mask


def write(path: Path, image: Image.Image, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)


def _palette(mask: Mask) -> Image.Image:
    image = Image.fromarray(mask)
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 0, 200])
    return image


FORMS: Final[Mapping[str, tuple[Callable[[Mask], Image.Image], str, bool]]] = {
    "0 and 255": (lambda mask: Image.fromarray((mask > 0).astype(np.uint8) * 255), "png", False),
    "0 and 1": (lambda mask: Image.fromarray((mask > 0).astype(np.uint8)), "png", False),
    "one bit": (lambda mask: Image.fromarray(mask > 0), "png", False),
    "grey in colours": (
        lambda mask: Image.fromarray((mask > 0).astype(np.uint8) * 255).convert("RGB"), "bmp", False
    ),
    "jpeg": (lambda mask: Image.fromarray((mask > 0).astype(np.uint8) * 255), "jpg", False),
    "classes": (Image.fromarray, "png", True),
    "classes of 16 bit": (lambda mask: Image.fromarray(mask.astype(np.uint16)), "png", True),
    "classes in tiff": (Image.fromarray, "tif", True),
    "palette": (_palette, "png", True),
    "palette in gif": (_palette, "gif", True),
}  # fmt: skip
"""Picture of a mask, ending, and whether the two classes stay apart"""


def settings(*words: str) -> Preprocessing:
    common = ("recipes=binary", "data=image_masks", "data.path=here", f"preprocessing.image_size={SIZE}")
    return compose([*common, *words]).preprocessing


def cases_of(root: Path) -> list[CaseFiles]:
    cases, problems = check_source("set", root, *discover("image_masks", root, "set"))
    assert not problems
    return cases


def prepare(root: Path, *words: str) -> list[SlicedCase]:
    return [extract_slices(case.read(), settings(*words)) for case in cases_of(root)]


@pytest.mark.parametrize("folders", [("",) * 3, ("train", "val", "test")], ids=["flat", "folders"])
@pytest.mark.parametrize("form", FORMS)
def test_masks_of_every_form_arrive_in_the_slices(
    tmp_path: Path, form: str, folders: tuple[str, str, str]
) -> None:
    make, ending, several = FORMS[form]
    expected = []
    for number, (folder, shape) in enumerate(zip(folders, SHAPES, strict=True)):
        mask = objects(*shape)
        write(tmp_path / folder / "images" / f"p{number}.png", Image.fromarray(pixels(number, *shape)))
        options = {"quality": 80} if ending == "jpg" else {}
        write(tmp_path / folder / "masks" / f"p{number}.{ending}", make(mask), **options)
        expected.append(mask if several else (mask > 0).astype(np.uint8))
    sliced = sorted(prepare(tmp_path, "preprocessing.fit=pad"), key=lambda case: case.key.case[-2:])
    assert [case.masks.shape for case in sliced] == [(1, SIZE, SIZE)] * 3
    for case, mask in zip(sliced, expected, strict=True):
        (restored,) = restore_to_volume(case.masks == 1, case.geometry)
        wrong = np.count_nonzero(restored != (mask == 1))
        assert wrong <= (12 if ending == "jpg" else 0), "JPEG moves a border by a pixel here and there"
        assert np.count_nonzero(case.masks == 2) == np.count_nonzero(mask == 2)


@pytest.mark.parametrize(("fit", "count"), [("resize", 1), ("pad", 1), ("tile", 4)])
def test_each_fit_takes_pictures_of_different_sizes(tmp_path: Path, fit: str, count: int) -> None:
    for number, shape in enumerate(SHAPES):
        write(tmp_path / f"images/p{number}.jpg", Image.fromarray(pixels(number, *shape)), quality=95)
        write(tmp_path / f"masks/p{number}.png", Image.fromarray(objects(*shape)))
    for case in prepare(tmp_path, f"preprocessing.fit={fit}", "preprocessing.image_size=32"):
        rows, cols = case.geometry.shape[1:]
        assert len(case.images) == (count if fit != "tile" else -(-rows // 32) * -(-cols // 32))
        assert {*np.unique(case.masks)} == {0, 1, 2}
        assert np.isfinite(case.images).all()


def _as(kind: str, image: NDArray[np.uint8], path: Path) -> None:
    """Write one picture in colour as 3 or 4 channels of 8 or 16 bits."""
    deep = image.astype(np.uint16) * 257
    path.parent.mkdir(parents=True)
    if kind == "16 bit":
        cv2.imwrite(str(path), deep[..., ::-1])
    elif kind == "16 bit and alpha":
        cv2.imwrite(str(path), np.dstack([deep[..., ::-1], np.full(image.shape[:2], 65535, np.uint16)]))
    else:
        opaque = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
        Image.fromarray(opaque if kind == "alpha" else image).save(path)


@pytest.mark.parametrize("kind", ["alpha", "16 bit", "16 bit and alpha"])
@pytest.mark.parametrize("channels", ["[red,green,blue]", "[grey]"])
def test_depth_and_alpha_do_not_change_what_a_model_sees(tmp_path: Path, kind: str, channels: str) -> None:
    image, prepared = pixels(0, 48, 64), []
    for folder in ("8 bit", kind):
        _as(folder, image, tmp_path / folder / "images/a.png")
        write(tmp_path / folder / "masks/a.png", Image.fromarray(objects(48, 64)))
        words = (f"preprocessing.channels={channels}", "preprocessing.intensity=unit")
        (case,) = prepare(tmp_path / folder, *words)
        prepared.append(case.images.astype(np.float32))
    assert prepared[0].shape == (1, channels.count(",") + 1, SIZE, SIZE)
    np.testing.assert_allclose(prepared[1], prepared[0], atol=1 / 255)
    assert 0.3 < prepared[0].max() <= 1


@pytest.mark.parametrize("deep", [False, True])
def test_grey_pictures_fill_three_equal_channels(tmp_path: Path, deep: bool) -> None:
    image = pixels(0, 48, 64)[..., 0]
    write(tmp_path / "images/a.png", Image.fromarray(image.astype(np.uint16) * 257 if deep else image))
    write(tmp_path / "masks/a.png", Image.fromarray(objects(48, 64)))
    (case,) = prepare(tmp_path, "preprocessing.intensity=unit")
    assert case.images.shape == (1, 3, SIZE, SIZE)
    np.testing.assert_array_equal(case.images[:, 0], case.images[:, 2])
    (grey,) = prepare(tmp_path, "preprocessing.intensity=unit", "preprocessing.channels=[grey]")
    np.testing.assert_array_equal(grey.images[:, 0], case.images[:, 0])
