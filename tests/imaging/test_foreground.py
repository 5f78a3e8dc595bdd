"""The brain is found where it is, whatever another program made of the intensities."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.conftest import REAL_DATA
from tests.imaging.disturbances import DISTURBANCES, noise, plus, spikes, z_scored
from tests.imaging.ellipsoid import KEY, ball, dice, settings
from tests.imaging.test_intensity import head_picture

from slicewise.data.phantom.patients import generate_patient
from slicewise.domain.keys import CaseKey
from slicewise.domain.labels import MODALITIES
from slicewise.imaging.foreground import foreground
from slicewise.imaging.slicing import extract_slices
from slicewise.imaging.volume import Presence, Volume, picture_volume, read_nifti_case

SUBSETS: tuple[Presence, ...] = (
    (True, False, False, False),
    (False, False, True, False),
    (False, True, False, True),
    (True, True, True, True),
)
"""One to four modalities."""


def subset(images: NDArray[Any], presence: Presence) -> NDArray[Any]:
    return np.asarray(images * np.array(presence, images.dtype).reshape(4, 1, 1, 1))


def disturbed(images: NDArray[Any], presence: Presence, name: str, seed: int = 0) -> NDArray[np.float32]:
    """Disturb the first filled modality: one program may have written one of the files."""
    changed, slot = images.astype(np.float32), presence.index(True)
    image = images[slot]
    changed[slot] = DISTURBANCES[name](image, image != 0, np.random.default_rng([seed]))
    return changed


@pytest.fixture(scope="module")
def phantom() -> NDArray[np.int16]:
    """A virtual patient at every other millimetre."""
    return np.ascontiguousarray(generate_patient(1, 0).images[:, ::2, ::2, ::2])


@pytest.mark.parametrize(
    ("name", "presence"),
    [(name, SUBSETS[number % 4]) for number, name in enumerate(DISTURBANCES)],
)
def test_a_disturbed_patient_has_the_same_brain(
    phantom: NDArray[np.int16], presence: Presence, name: str
) -> None:
    raw = subset(phantom, presence)
    expected = np.asarray((raw != 0).any(axis=0))
    np.testing.assert_array_equal(foreground(raw, presence), expected)
    found = foreground(disturbed(raw, presence, name), presence)
    assert dice(found, expected) >= 0.95


@pytest.mark.parametrize("name", ["z-scored inside", "z-scored", "0 to 1", "plus 1000", "times 40", "plus 7"])
def test_affine_changes_do_not_reach_the_model(phantom: NDArray[np.int16], name: str) -> None:
    presence = SUBSETS[2]
    raw = subset(phantom, presence)
    volumes = [Volume(KEY, images, presence, None, None, (2.0, 2.0, 2.0), None)
               for images in (raw, disturbed(raw, presence, name))]  # fmt: skip
    first, second = (extract_slices(volume, settings()) for volume in volumes)
    assert first.geometry == second.geometry
    np.testing.assert_allclose(
        first.images.astype(np.float32), second.images.astype(np.float32), atol=0.02, rtol=0.01
    )


@pytest.mark.parametrize("value", [5000, -30_000])
def test_a_stray_voxel_does_not_widen_the_box(phantom: NDArray[np.int16], value: int) -> None:
    spiked = phantom.copy()
    spiked[0, phantom.shape[1] // 2, 0, 0] = value
    boxes = [
        extract_slices(Volume(KEY, images, SUBSETS[3], None, None, (2.0,) * 3, None), settings()).geometry
        for images in (phantom, spiked)
    ]
    assert boxes[0] == boxes[1]


@pytest.mark.real_data
@pytest.mark.skipif(
    not (REAL_DATA / "brats").is_dir(), reason="the BraTS samples are not beside the checkout"
)
@pytest.mark.parametrize("number", range(6))
def test_a_disturbed_real_patient_has_the_same_brain(number: int) -> None:
    folder = sorted((REAL_DATA / "brats").iterdir())[number]
    paths = [folder / f"{folder.name}_{modality}.nii.gz" for modality in MODALITIES]
    images = read_nifti_case(CaseKey("brats", "p", "c"), MODALITIES, paths, None).images[:, ::2, ::2, ::2]
    presence = SUBSETS[number % len(SUBSETS)]
    raw = subset(images, presence)
    expected = np.asarray((raw != 0).any(axis=0))
    found = {name: dice(foreground(disturbed(raw, presence, name, number), presence), expected)
             for name in [*DISTURBANCES][number % 2 :: 2]}  # fmt: skip
    assert {name: share for name, share in found.items() if share < 0.95} == {}


def picture_foreground(pixels: NDArray[Any]) -> NDArray[np.bool_]:
    volume = picture_volume(KEY, pixels, "flair")
    return np.asarray(foreground(volume.images, volume.presence)[0])


@pytest.mark.parametrize("value", [-30.0, -1e6, 1e6])
def test_one_pixel_does_not_make_the_picture_a_head(value: float) -> None:
    pixels = head_picture()[0].astype(np.float32)
    expected = picture_foreground(pixels)
    pixels[3, 3] = value
    assert dice(picture_foreground(pixels), expected) > 0.99


@pytest.mark.parametrize("change", [z_scored, plus(-1024), plus(50), plus(1000), noise(0.03), spikes(-1, 5)])
def test_a_disturbed_picture_shows_the_same_head(change: Any) -> None:
    pixels, head = head_picture()
    changed = change(pixels[None], head[None], np.random.default_rng([2]))[0]
    assert dice(picture_foreground(changed.astype(np.float32)), head) > 0.97


def test_the_head_is_found_on_white_paper_and_within_a_picture_on_white_paper() -> None:
    pixels, head = head_picture()
    assert dice(picture_foreground(255 - pixels), head) > 0.97
    page = np.full((200, 240), 255, np.uint8)
    page[20:180, 50:190] = pixels
    on_page = np.zeros(page.shape, np.bool_)
    on_page[20:180, 50:190] = head
    assert dice(picture_foreground(page), on_page) > 0.97


def test_values_outside_a_turned_field_of_view_are_background() -> None:
    """As resampling to a turned grid leaves them: corners of -1024 around noise around a head."""
    shape = (6, 96, 96)
    rng = np.random.default_rng([4])
    head, field = ball((3, 48, 48), (9, 24, 20), shape), ball((3, 48, 48), (99, 46, 46), shape)
    image = np.where(field, np.where(head, rng.normal(300, 40, shape), rng.rayleigh(8, shape)), -1024)
    stack = np.zeros((4, *shape), np.float32)
    stack[1] = image
    assert dice(foreground(stack, (False, True, False, False)), head) > 0.97


def test_a_volume_that_is_cropped_to_tissue_is_all_inside() -> None:
    rng = np.random.default_rng([5])
    stack = np.zeros((4, 5, 40, 40), np.float32)
    for low, width in ((200, 30), (0, 1), (-500, 200)):
        stack[0] = rng.normal(low, width, stack.shape[1:])
        assert foreground(stack, SUBSETS[0]).mean() > 0.9


def test_what_is_constant_shows_nothing() -> None:
    constant = np.full((4, 3, 20, 20), 100, np.int16)
    assert not foreground(constant, SUBSETS[3]).any()
    constant[2] = 0
    constant[2, :, 5:15, 5:15] = 40
    assert foreground(constant, SUBSETS[3]).sum() == 3 * 10 * 10
