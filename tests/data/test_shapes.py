"""Generated shapes: reproducible, told apart by their masks, laid out in train, val and test."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from tests.fixtures.sources import discover

from slicewise.config.schema.sources import ShapesSettings
from slicewise.core.errors import DataError
from slicewise.core.files import read_json
from slicewise.data.shapes import draw_picture, write_shapes


def settings(**changes: int) -> ShapesSettings:
    return ShapesSettings.model_validate(
        {"kind": "shapes", "name": "shapes", "train": 3, "val": 2, "test": 2, "size": 64, **changes}
    )


def test_a_set_has_a_mask_for_each_picture(tmp_path: Path) -> None:
    write_shapes(tmp_path, settings(classes=4))
    cases, problems = discover("shapes", tmp_path, "shapes")
    assert not [problem for problem in problems if problem.severity != "note"]
    assert [case.key.case for case in cases][:2] == ["test-test_0001", "test-test_0002"]
    assert len(cases) == 7
    classes = read_json(tmp_path / "classes.json")["classes"]
    assert classes == {"background": 0, "circle": 1, "ellipse": 2, "rectangle": 3, "polygon": 4}
    with Image.open(tmp_path / "train/masks/train_0001.png") as image:
        assert image.mode == "P"
    volume = cases[0].read()
    assert volume.images.shape == (3, 1, 64, 64)
    assert volume.mask is not None
    assert volume.mask.any()
    assert volume.mask.max() <= 4


def test_one_class_is_0_and_255(tmp_path: Path) -> None:
    write_shapes(tmp_path, settings())
    with Image.open(tmp_path / "val/masks/val_0001.png") as image:
        assert np.unique(np.asarray(image)).tolist() == [0, 255]


def test_the_seed_decides(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_shapes(tmp_path / name, settings(seed=seed))
    first, same, other = (
        (tmp_path / name / "test/images/test_0001.jpg").read_bytes() for name in ("a", "b", "c")
    )
    assert first == same != other


def test_only_what_is_missing_is_drawn_again(tmp_path: Path) -> None:
    write_shapes(tmp_path, settings())
    gone, kept = tmp_path / "train/masks/train_0002.png", tmp_path / "train/masks/train_0001.png"
    before, changed = gone.read_bytes(), kept.stat().st_mtime_ns
    gone.unlink()
    write_shapes(tmp_path, settings())
    assert gone.read_bytes() == before
    assert kept.stat().st_mtime_ns == changed


def test_another_set_in_the_folder_is_refused(tmp_path: Path) -> None:
    write_shapes(tmp_path / "set", settings())
    with pytest.raises(DataError, match=r"a generated set of other settings; move it elsewhere"):
        write_shapes(tmp_path / "set", settings(size=96))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/holiday.jpg").touch()
    with pytest.raises(DataError, match="holds other files; name a new folder"):
        write_shapes(tmp_path / "mine", settings())


def test_shapes_stand_out_from_the_background() -> None:
    for seed in range(20):
        picture, mask = draw_picture(np.random.default_rng(seed), 128, 1)
        grey, (number, shapes) = picture.mean(-1), cv2.connectedComponents(mask)
        background = grey[mask == 0].mean()
        assert all(abs(grey[shapes == place].mean() - background) > 12 for place in range(1, number))
        assert 0.01 < (mask > 0).mean() < 0.6
