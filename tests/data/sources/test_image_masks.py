"""Pictures with masks in the layouts, formats and values that people use."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.fixtures.sources import discover

from slicewise.core.errors import DataError
from slicewise.data.cases import CaseFiles, check_source
from slicewise.data.problems import Problem

SIZE = 48


def picture(seed: int, size: tuple[int, int] = (SIZE, SIZE)) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, (*size, 3)).astype(np.uint8)


def mask(values: tuple[int, ...] = (255,), size: tuple[int, int] = (SIZE, SIZE)) -> NDArray[np.uint8]:
    """A band of rows for each value, the rest 0."""
    rows = np.zeros(size, np.uint8)
    for place, value in enumerate(values):
        rows[8 + 6 * place : 12 + 6 * place, 10:30] = value
    return rows


def save(path: Path, array: NDArray[Any], **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def found(root: Path, **settings: Any) -> tuple[list[CaseFiles], list[Problem]]:
    cases, problems = discover("image_masks", root, "set", **settings)
    return check_source("set", root, cases, problems)


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("images/a.png", "masks/a.png"),
        ("image/a.png", "mask/A_mask.png"),
        ("imgs/a.png", "labels/a_seg.png"),
        ("train/images/a.png", "train/masks/a.png"),
        ("images/train/a.png", "masks/train/mask_a.png"),
        ("train/a.png", "train_masks/a_mask.png"),
        ("JPEGImages/a.png", "SegmentationClass/a.png"),
        ("x_Input/a.png", "x_GroundTruth/a_segmentation.png"),
        ("images/image_7.png", "masks/mask_7.png"),
        ("benign/a (1).png", "benign/a (1)_mask.png"),
        ("my_image_masks/images/a.png", "my_image_masks/masks/a.png"),
    ],
)
def test_a_mask_is_found_in_the_usual_places(tmp_path: Path, image: str, label: str) -> None:
    save(tmp_path / image, picture(0))
    save(tmp_path / label, mask())
    (case,), problems = found(tmp_path)
    assert (case.images, case.masks) == ((tmp_path / image,), (tmp_path / label,))
    assert not problems


def test_folders_of_other_names_are_named_by_the_settings(tmp_path: Path) -> None:
    save(tmp_path / "raw/a.png", picture(0))
    save(tmp_path / "truth/a.png", mask())
    assert len(found(tmp_path, images="raw", masks="truth")[0]) == 1


def test_what_does_not_fit_is_listed(tmp_path: Path) -> None:
    for number, name in enumerate(("whole", "alone", "other", "twice")):
        save(tmp_path / f"images/{name}.png", picture(number))
    save(tmp_path / "masks/whole.png", mask())
    save(tmp_path / "masks/stray.png", mask())
    save(tmp_path / "masks/other.png", mask(size=(SIZE, 40)))
    save(tmp_path / "masks/twice.png", mask())
    save(tmp_path / "masks/twice_mask.png", mask())
    (case,), problems = found(tmp_path)
    assert case.key.case == "whole"
    assert {(problem.path.stem, problem.what) for problem in problems} == {
        ("alone", "a picture without a mask, left out"),
        ("stray", "a mask without a picture, left out"),
        ("other", "the mask is 40 x 48 pixels, and its picture 48 x 48"),
        ("twice", "a picture with several masks, left out; join them into one file"),
    }


@pytest.mark.parametrize(
    ("values", "settings", "labels"),
    [
        ((255,), {}, [1]),
        ((1,), {}, [1]),
        ((1, 3), {}, [1, 3]),
        ((100,), {}, [1]),
        ((85, 170, 255), {"values": {"85": 1, "170": 2, "255": 0}}, [1, 2]),
    ],
)
def test_the_values_of_masks_become_labels(
    tmp_path: Path, values: tuple[int, ...], settings: dict[str, Any], labels: list[int]
) -> None:
    save(tmp_path / "images/a.png", picture(0))
    save(tmp_path / "masks/a.png", mask(values))
    (case,), _ = found(tmp_path, **settings)
    read = case.read().mask
    assert read is not None
    assert np.unique(read).tolist() == [0, *labels]


def test_of_a_palette_the_indices_count(tmp_path: Path) -> None:
    save(tmp_path / "images/a.png", picture(0))
    image = Image.fromarray(mask((1, 2)))
    image.putpalette([0, 0, 0, 200, 0, 0, 7, 7, 7])
    (tmp_path / "masks").mkdir()
    image.save(tmp_path / "masks/a.png")
    (case,), _ = found(tmp_path)
    read = case.read().mask
    assert read is not None
    assert np.array_equal(read[0], mask((1, 2)))


def test_noise_of_jpeg_is_cut(tmp_path: Path) -> None:
    save(tmp_path / "images/a.jpg", picture(0))
    path = save(tmp_path / "masks/a.jpg", mask(), quality=70)
    with Image.open(path) as image:
        assert len(np.unique(np.asarray(image))) > 10
    (case,), _ = found(tmp_path)
    read = case.read().mask
    assert read is not None
    assert (read[0] != (mask() > 0)).mean() < 0.01


def test_classes_in_a_jpeg_are_refused(tmp_path: Path) -> None:
    for number, name in enumerate("ab"):
        save(tmp_path / f"images/{name}.png", picture(number))
    save(tmp_path / "masks/a.jpg", mask((85, 170, 255)))
    save(tmp_path / "masks/b.png", mask())
    cases, problems = found(tmp_path)
    assert [case.key.case for case in cases] == ["b"]
    assert "save masks of several classes as PNG" in problems[0].what


@pytest.mark.parametrize(
    ("values", "settings", "words"),
    [
        ((85, 170, 255), {}, r"hold 0, 85, 170, 255 .*set data\.sources\.set\.values=\{85:1,170:2,255:3\}"),
        ((1, 9), {"values": {"1": 1}}, r"hold 9, which no class has; data\.sources\.set\.values has 0, 1"),
    ],
)
def test_values_without_a_class_are_an_error(
    tmp_path: Path, values: tuple[int, ...], settings: dict[str, Any], words: str
) -> None:
    save(tmp_path / "images/a.png", picture(0))
    save(tmp_path / "masks/a.png", mask(values))
    with pytest.raises(DataError, match=words):
        found(tmp_path, **settings)


def test_a_mask_in_colours_names_them(tmp_path: Path) -> None:
    for number, name in enumerate("ab"):
        save(tmp_path / f"images/{name}.png", picture(number))
    colours = np.stack([mask((200, 90)), mask((0, 90)), mask((0, 9))], axis=-1)
    save(tmp_path / "masks/a.png", colours)
    save(tmp_path / "masks/b.png", mask())
    _, problems = found(tmp_path)
    assert "3 colours (red, green, blue: (0, 0, 0), (90, 90, 9), (200, 0, 0))" in problems[0].what


def test_a_folder_without_pairs_says_what_is_expected(tmp_path: Path) -> None:
    save(tmp_path / "photos/a.png", picture(0))
    with pytest.raises(DataError, match=r"(?s)expected images/x\.jpg and masks/x\.png.*without a mask"):
        found(tmp_path)


@pytest.mark.parametrize("kind", ["grey", "colour", "alpha", "deep"])
def test_pictures_of_any_depth_fill_the_channels_of_the_recipe(tmp_path: Path, kind: str) -> None:
    pixels = picture(0, (40, 60))
    arrays: dict[str, NDArray[Any]] = {
        "grey": pixels[..., 0],
        "colour": pixels,
        "alpha": np.dstack([pixels, np.full((40, 60), 255, np.uint8)]),
        "deep": pixels[..., 0].astype(np.uint16) * 257,
    }
    save(tmp_path / "images/a.png", arrays[kind])
    save(tmp_path / "masks/a.png", mask(size=(40, 60)))
    (case,), _ = found(tmp_path)
    volume = case.read()
    colours, grey = volume.select(("red", "green", "blue")), volume.select(("grey",))
    assert (colours.images.shape, grey.images.shape) == ((3, 1, 40, 60), (1, 1, 40, 60))
    assert all(colours.presence)
    assert colours.images.dtype == grey.images.dtype == arrays[kind].dtype
    if kind in ("grey", "deep"):
        assert np.array_equal(grey.images[0, 0], arrays[kind])
        assert np.array_equal(colours.images[:, 0], np.stack([arrays[kind]] * 3))
    else:
        assert np.array_equal(colours.images[:, 0], np.moveaxis(pixels, -1, 0))
        expected = np.asarray(Image.fromarray(pixels).convert("L")).astype(int)
        assert np.abs(grey.images[0, 0].astype(int) - expected).max() <= 1
