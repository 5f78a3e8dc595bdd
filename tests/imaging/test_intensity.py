import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.imaging.ellipsoid import ball, brain, images, normalise, tumour

from slicewise.imaging.foreground import foreground
from slicewise.imaging.intensity import compute_scaling

ALL = (True, True, True, True)
CLIP = (0.5, 99.5)


def test_the_brain_of_stripped_data_is_every_voxel_that_is_not_0() -> None:
    stripped = images()
    stripped[0, 10, 36, 30] = 0  # dark in one modality is still brain
    np.testing.assert_array_equal(foreground(stripped, ALL), brain())


def test_empty_slots_do_not_count() -> None:
    only_t2 = images()
    only_t2[[0, 1, 3]] = 0
    np.testing.assert_array_equal(foreground(only_t2, (False, False, True, False)), brain())


def head_picture(seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A head with a dark ventricle and a letter beside it, compressed as JPEG on a black background."""
    shape = (1, 160, 140)
    head, ventricle = ball((0, 80, 70), (1, 60, 50), shape), ball((0, 80, 70), (1, 12, 6), shape)
    rng = np.random.default_rng([seed])
    pixels = np.where(head, rng.normal(140, 15, shape), np.abs(rng.normal(0, 3, shape)))
    pixels[ventricle] = 2
    pixels[0, 4:16, 4:10] = 255
    _, code = cv2.imencode(".jpg", pixels[0].clip(0, 255).astype(np.uint8))
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), np.uint8), head[0]


def test_a_pictures_head_is_found_without_noise_letters_or_holes() -> None:
    pixels, head = head_picture()
    stack = np.zeros((4, 1, *pixels.shape), np.uint8)
    stack[3, 0] = pixels
    found = foreground(stack, (False, False, False, True))[0]
    assert not found[:20, :14].any()
    assert found[80, 70]
    assert np.mean(found != head) < 0.01


def test_a_light_frame_does_not_make_the_whole_picture_a_head() -> None:
    pixels, head = head_picture()
    pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:] = 230, 230, 230, 230
    stack = np.zeros((4, 1, *pixels.shape), np.uint8)
    stack[3, 0] = pixels
    found = foreground(stack, (False, False, False, True))[0]
    assert np.mean(found != head) < 0.02


def test_nothing_is_found_in_darkness() -> None:
    assert not foreground(np.zeros((4, 2, 8, 8), np.float32), ALL).any()


def test_a_picture_without_background_is_all_head() -> None:
    stack = np.zeros((4, 1, 32, 32), np.uint8)
    stack[0] = np.random.default_rng([3]).integers(100, 160, (1, 32, 32)) + np.arange(32)
    assert foreground(stack, (True, False, False, False)).mean() > 0.95


def test_normalised_is_a_z_score_inside_and_0_outside() -> None:
    result = normalise(images(), brain(), (True, True, False, True), CLIP)
    assert result.dtype == np.float32
    for slot in (0, 1, 3):
        assert result[slot][brain()].mean() == pytest.approx(0, abs=1e-4)
        assert result[slot][brain()].std() == pytest.approx(1, abs=1e-4)
    assert not result[2].any()
    assert not result[:, ~brain()].any()


def test_normalised_does_not_depend_on_scale_or_offset_of_the_scanner() -> None:
    first = normalise(images(), brain(), ALL, CLIP)
    second = normalise(images().astype(np.float32) * 37 + 1000, brain(), ALL, CLIP)
    np.testing.assert_allclose(first, second, atol=2e-3)


def test_one_wild_voxel_changes_nothing() -> None:
    wild = images()
    wild[0, 10, 36, 30] = 32767
    elsewhere = brain()
    elsewhere[10, 36, 30] = False
    first, second = (normalise(image, brain(), ALL, CLIP)[0][elsewhere] for image in (images(), wild))
    np.testing.assert_allclose(first, second, atol=0.01)
    calm, disturbed = (compute_scaling(image, brain(), ALL, CLIP)[0] for image in (images(), wild))
    assert calm is not None
    assert disturbed is not None
    assert disturbed.high == pytest.approx(calm.high, rel=0.01)
    assert disturbed.std == pytest.approx(calm.std, rel=0.01)


def test_a_constant_image_becomes_0() -> None:
    assert not normalise(np.full((4, *brain().shape), 9, np.int16), brain(), ALL, CLIP).any()


def test_sampled_statistics_are_those_of_all_voxels() -> None:
    rng = np.random.default_rng([1])
    big = rng.gamma(3, 100, (4, 1, 900, 900)).astype(np.float32)
    scaling = compute_scaling(big, np.ones(big.shape[1:], np.bool_), (True, False, False, False), CLIP)[0]
    assert scaling is not None
    low, high = np.percentile(big[0], CLIP)
    assert scaling.low == pytest.approx(low, rel=0.03)
    assert scaling.high == pytest.approx(high, rel=0.03)
    assert scaling.mean == pytest.approx(big[0].clip(low, high).mean(), rel=0.01)
    assert scaling.std == pytest.approx(big[0].clip(low, high).std(), rel=0.01)


def test_the_tumour_stays_brighter_than_the_brain() -> None:
    result = normalise(images(), brain(), ALL, CLIP)
    inside = tumour() > 0
    assert result[3][inside].mean() > result[3][brain() & ~inside].mean() + 1
