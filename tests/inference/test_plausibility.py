from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.imaging.brains import brain
from tests.inference.pipelines import pipeline

from slicewise.config.compose import compose
from slicewise.core.errors import DataError
from slicewise.domain.keys import CaseKey
from slicewise.domain.labels import MODALITIES
from slicewise.domain.reference import SKULL_SHARE, Appearance, TrainingReference
from slicewise.imaging.orientation import Orientation
from slicewise.imaging.slicing import extract_slices
from slicewise.imaging.volume import Volume
from slicewise.inference.plausibility import find_doubts
from slicewise.models.checkpoint import Checkpoint

SHAPE = (12, 160, 160)


def head(*, skull: bool = False) -> NDArray[np.float32]:
    """A volume [slice, row, col] whose slices become smaller to both ends."""
    pages = []
    for height in np.linspace(-0.9, 0.9, SHAPE[0]):
        page = Image.fromarray(brain(160, skull=skull))
        side = int(160 * np.sqrt(1 - height**2))
        small = np.asarray(page.resize((side, side), Image.Resampling.BILINEAR))
        margin = (160 - side) // 2
        pages.append(np.pad(small, ((margin, 160 - side - margin),) * 2))
    return np.stack(pages)


def volume(images: dict[str, NDArray[Any]], spacing: tuple[float, float, float] = (6.0, 1.1, 1.1)) -> Volume:
    slots = np.zeros((4, *SHAPE), np.float32)
    for name, image in images.items():
        slots[MODALITIES.index(name)] = image
    affine = np.diag([-spacing[2], -spacing[1], spacing[0], 1.0])
    header = nib.Nifti1Image(np.zeros(SHAPE[::-1], np.uint8), affine).header.binaryblock
    grid = Orientation(tuple(map(tuple, affine.tolist())), SHAPE[::-1], header)
    presence = tuple(name in images for name in MODALITIES)
    return Volume(CaseKey("input", "p", "p"), slots, presence, None, None, spacing, grid)


def doubts(case: Volume, skulls: float | None = 0.0) -> tuple[str, ...]:
    shares = {} if skulls is None else {SKULL_SHARE: skulls}
    reference = TrainingReference((), {"volume": Appearance(9, {}, shares)})
    return find_doubts(case, extract_slices(case, compose([]).preprocessing), reference)


def test_nothing_speaks_against_a_brain() -> None:
    one = head()
    assert doubts(volume({"flair": one, "t1": 0.6 * one})) == ()


def test_a_volume_of_noise_is_no_brain() -> None:
    noise = np.random.default_rng(0).uniform(1, 255, SHAPE)
    (text,) = doubts(volume({"flair": noise}))
    assert text.startswith("this does not look like MRI of a brain (")
    assert text.endswith("the prediction means nothing")


def test_modalities_of_two_patients_do_not_coincide() -> None:
    one = head()
    other = np.roll(one, 12, axis=2)
    (text,) = doubts(volume({"flair": one, "t1": other}))
    assert text.startswith("the heads in t1 and flair do not coincide (Dice 0.8")


def test_a_head_of_the_wrong_size_points_to_the_header() -> None:
    texts = doubts(volume({"flair": head()}, (6.0, 0.2, 1.1)))
    assert any("mm long from front to back" in text and "voxel size" in text for text in texts)


def test_values_of_ct_are_named() -> None:
    air = np.random.default_rng(0).normal(-1000, 20, SHAPE)
    scan = np.where(head() > 0, 40.0, air)
    assert "the values of t1 are those of CT (Hounsfield units), not of MRI" in doubts(volume({"t1": scan}))


@pytest.mark.parametrize(("learned", "warned"), [(0.0, True), (0.05, True), (0.6, False), (None, False)])
def test_a_skull_is_told_where_the_model_learned_none(learned: float | None, warned: bool) -> None:
    texts = doubts(volume({"t1": head(skull=True)}), learned)
    assert any("not skull-stripped" in text for text in texts) is warned
    assert not doubts(volume({"t1": head()}), learned)


def test_pictures_of_other_recipes_are_not_judged() -> None:
    noise = np.random.default_rng(0).uniform(1, 255, (1, *SHAPE)).astype(np.float32)
    case = Volume(CaseKey("i", "p", "p"), noise, (True,), None, None, (1, 1, 1), None, channels=("grey",))
    settings = compose([]).preprocessing.model_copy(update={"channels": ("grey",)})
    assert find_doubts(case, extract_slices(case, settings), None) == ()


def test_a_strict_prediction_refuses_what_is_doubted(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path, found = tmp_path / "noise.png", pipeline(checkpoint)
    colours = np.random.default_rng(0).uniform(0, 255, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(colours).save(path)
    prediction = found.predict(path)
    assert "it has colours" in prediction.doubts[0]
    assert prediction.to_row().doubts == prediction.doubts[0]
    with pytest.raises(DataError, match=r"noise\.png: this does not look like MRI .*it has colours"):
        found.predict(path, strict=True)


def test_a_model_that_remembers_nothing_warns_of_no_skull(checkpoint: Checkpoint) -> None:
    found = pipeline(replace(checkpoint, reference=None))
    assert found.predict(volume({"t1": head(skull=True)})).doubts == ()
