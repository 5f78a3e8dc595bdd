import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.imaging.ellipsoid import SHAPE, brain, dice, images, normalise, settings, tumour, volume

from slicewise.core.errors import VolumeError
from slicewise.imaging.orientation import Orientation
from slicewise.imaging.resize import resize_image
from slicewise.imaging.slicing import (
    UNKNOWN_LABEL,
    Geometry,
    extract_slices,
    pad_missing_slices,
    resize_labels,
    restore_to_volume,
    select_training_slices,
)
from slicewise.imaging.volume import picture_volume

IDENTITY = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 2.0, 0.0), (0.0, 0.0, 0.0, 1.0))
PLACED = Orientation(IDENTITY, SHAPE, b"")


def test_shapes_and_types() -> None:
    case = extract_slices(volume(), settings())
    assert case.images.dtype == np.float16
    assert case.images.shape == (len(case.indices), 4, 64, 64)
    assert case.masks.shape == (len(case.indices), 64, 64)
    assert case.has_mask
    np.testing.assert_array_equal(case.labels, case.masks.any(axis=(1, 2)))
    assert case.slice_mm == 2.0


def test_a_pixel_has_a_size_only_where_the_files_tell_one() -> None:
    assert extract_slices(volume(), settings()).pixel_mm is None
    assert extract_slices(volume(orientation=PLACED), settings()).pixel_mm == pytest.approx(
        61 * 1.1 / 64, abs=1 / 64
    )


@pytest.mark.parametrize("size", [32, 64, 128])
def test_a_mask_comes_back_where_it_was(size: int) -> None:
    case = extract_slices(volume(), settings(image_size=size))
    back = restore_to_volume(case.masks, case.geometry)
    assert back.dtype == np.uint8
    assert back.shape == tumour().shape
    assert dice(back, tumour()) > 0.95
    assert dice(back == 3, tumour() == 3) > (0.85 if size == 32 else 0.95)


def test_probabilities_come_back_as_probabilities() -> None:
    case = extract_slices(volume(), settings())
    back = restore_to_volume((case.masks > 0).astype(np.float32), case.geometry)
    assert back.dtype == np.float32
    assert back.min() >= 0
    assert back.max() <= 1
    assert dice(back >= 0.5, tumour()) > 0.95
    assert restore_to_volume(case.masks > 0, case.geometry).dtype == np.bool_


def test_slices_without_brain_are_dropped_and_restored_as_0() -> None:
    case = extract_slices(volume(), settings(min_brain_fraction=0.5))
    area = brain().sum(axis=(1, 2))
    np.testing.assert_array_equal(case.indices, np.flatnonzero(area >= 0.5 * area.max()))
    back = restore_to_volume(np.ones_like(case.masks), case.geometry)
    assert not np.delete(back, case.indices, axis=0).any()


def test_a_slice_with_tumour_is_kept_however_little_brain_it_has() -> None:
    mask = tumour()
    mask[2, 36, 30] = 1
    case = extract_slices(volume(mask=mask), settings(min_brain_fraction=0.5))
    assert 2 in case.indices
    assert case.labels[0] == 1  # even one voxel stays visible at 64 pixels
    assert not case.included[0]
    assert not case.train[0]


def test_the_mask_does_not_decide_what_is_seen() -> None:
    """Serving has no mask and must see the same slices."""
    mask = tumour()
    mask[2, 36, 30] = 1
    few = settings(min_brain_fraction=0.5)
    with_mask, without = extract_slices(volume(mask=mask), few), extract_slices(volume(mask=None), few)
    assert len(with_mask.indices) == len(without.indices) + 1
    assert without.included.all()
    np.testing.assert_array_equal(with_mask.indices[with_mask.included], without.indices)
    np.testing.assert_array_equal(with_mask.images[with_mask.included], without.images)
    first, second = with_mask.geometry, without.geometry
    assert (first.top, first.left, first.height) == (second.top, second.left, second.height)
    assert not without.has_mask
    assert not without.masks.any()
    assert set(without.labels) == {UNKNOWN_LABEL}


def test_slices_are_the_normalised_volume() -> None:
    """At the box's own size nothing is resampled, so slices and `normalise` must agree."""
    box = extract_slices(volume(), settings(image_size=64, crop_margin=0.0)).geometry
    margin = (64 / box.height - 1) / 2
    case = extract_slices(volume(), settings(image_size=64, crop_margin=margin))
    assert case.geometry.height == 64
    whole = normalise(images(), brain(), (True,) * 4, settings().clip_percentiles)
    cut = np.stack([[case.geometry.cut(whole[slot, index]) for slot in range(4)] for index in case.indices])
    np.testing.assert_allclose(case.images, cut, atol=4e-3)


def test_outside_the_brain_is_0_and_its_rim_is_not_mixed_with_it() -> None:
    flat = np.where(brain(), 500, 0).astype(np.int16)
    flat[9:12, 30:40, 20:40] = 100  # so that there is a deviation
    case = extract_slices(volume(images=np.stack([flat] * 4)), settings())
    values = case.images[0, 0]
    rim = values[values != 0]
    np.testing.assert_allclose(rim, rim.max(), atol=1e-3)


def test_a_picture_has_its_label_and_one_slice() -> None:
    picture = np.zeros((4, 1, 72, 60), np.int16)
    picture[3, 0] = images()[3, 10]
    case = extract_slices(
        volume(
            images=picture, presence=(False, False, False, True), mask=None, label=1, spacing=(1.0, 1.0, 1.0)
        ),
        settings(),
    )
    assert case.labels.tolist() == [1]
    assert case.train.tolist() == [True]
    assert not case.has_mask
    assert not case.images[0, :3].any()


def test_a_brain_wider_than_the_image_is_padded() -> None:
    whole = np.full((4, 3, 40, 20), 100, np.int16) + np.arange(20, dtype=np.int16)
    case = extract_slices(volume(images=whole, mask=None), settings(crop_margin=0.0))
    assert case.geometry.left < 0
    assert (case.geometry.height, case.geometry.width) == (40, 40)
    assert not case.images[:, :, :, :14].any()
    back = restore_to_volume(np.ones_like(case.masks), case.geometry)
    assert back.shape == (3, 40, 20)
    assert back.all()


def test_pixels_that_are_not_square_are_cut_square_in_mm() -> None:
    case = extract_slices(volume(spacing=(2.0, 1.0, 2.0)), settings())
    assert case.geometry.height == pytest.approx(2 * case.geometry.width, abs=1)
    assert dice(restore_to_volume(case.masks, case.geometry), tumour()) > 0.95


def test_absurd_voxel_sizes_are_refused_before_memory_is_taken() -> None:
    absurd = volume(spacing=(2.0, 1e-6, 1.0), orientation=PLACED)
    with pytest.raises(VolumeError, match="correct the voxel sizes"):
        extract_slices(absurd, settings())


def test_a_picture_that_is_too_large_is_to_be_scaled_down() -> None:
    pixels = np.zeros((4, 8000), np.uint8)
    pixels[:, 1:-1] = 1 + np.arange(7998, dtype=np.uint8)
    with pytest.raises(VolumeError, match=r"toy/p1/c1: .* the picture has 8000 x 4, scale it down"):
        extract_slices(picture_volume(volume().key, pixels, "flair"), settings())


def test_darkness_is_refused() -> None:
    with pytest.raises(VolumeError, match="toy/p1/c1: no brain"):
        extract_slices(volume(images=np.zeros_like(images()), mask=None), settings())


def test_preparing_twice_gives_the_same_bytes() -> None:
    first, second = extract_slices(volume(), settings()), extract_slices(volume(), settings())
    for field in dataclasses.fields(first):
        np.testing.assert_array_equal(getattr(first, field.name), getattr(second, field.name))


@pytest.mark.parametrize(
    ("shape", "size", "way"),
    [
        ((150, 130), (64, 64), cv2.INTER_AREA),
        ((150, 64), (64, 64), cv2.INTER_AREA),
        ((40, 50), (64, 64), cv2.INTER_LINEAR),
        ((40, 64), (64, 64), cv2.INTER_LINEAR),
    ],
)
def test_axes_that_go_the_same_way_are_resized_at_once(
    shape: tuple[int, int], size: tuple[int, int], way: int
) -> None:
    image = np.random.default_rng(0).random(shape, np.float32)
    np.testing.assert_array_equal(resize_image(image, size), cv2.resize(image, size[::-1], interpolation=way))


@pytest.mark.parametrize("shape", [(180, 60), (60, 180), (180, 64), (64, 180)])
def test_an_axis_that_shrinks_is_averaged_whatever_the_other_does(shape: tuple[int, int]) -> None:
    """Stripes finer than the new pixels become even grey; picking pixels would make a pattern of them."""
    shrinking = int(np.argmax(shape))
    stripes = np.indices(shape)[shrinking] % 2
    np.testing.assert_allclose(resize_image(stripes.astype(np.float32), (64, 64)), 0.5, atol=0.15)


def test_labels_keep_their_area_where_pixels_are_not_square() -> None:
    mask = np.zeros((192, 40), np.uint8)
    mask[::3] = 2  # a third of each new pixel: never half of one
    mask[60:120, 10:30] = 1
    small = resize_labels(mask, (64, 64))
    assert (small == 1).sum() / small.size == pytest.approx(60 * 20 / mask.size, rel=0.05)
    assert not (small == 2).any()


@given(
    labels=st.lists(st.integers(0, 1), min_size=1, max_size=160),
    ratio=st.floats(0, 3),
    limit=st.integers(1, 100),
)
def test_training_sees_a_bounded_share_of_healthy_slices(labels: list[int], ratio: float, limit: int) -> None:
    array = np.array(labels, np.int8)
    chosen = select_training_slices(array, ratio, limit)
    ill, healthy = int((chosen & (array == 1)).sum()), int((chosen & (array == 0)).sum())
    assert 1 <= ill + healthy <= limit
    if array.any():
        assert ill >= 1
        assert healthy <= round(ratio * array.sum())
        assert ill + healthy == min(limit, array.sum() + min((array == 0).sum(), round(ratio * array.sum())))
    else:
        assert healthy == min(limit, len(labels))


def test_healthy_slices_are_spread_over_the_case() -> None:
    labels = np.zeros(100, np.int8)
    labels[40:50] = 1
    healthy = np.flatnonzero(select_training_slices(labels, 1.0, 64) & (labels == 0))
    assert len(healthy) == 10
    assert np.diff(healthy).max() <= 19
    assert healthy[0] < 10
    assert healthy[-1] > 90


def test_resized_labels_keep_the_area_and_no_label_is_invented() -> None:
    mask = np.zeros((120, 120), np.uint8)
    mask[20:80, 30:70] = 1
    mask[40:60, 40:60] = 3
    small = resize_labels(mask, (48, 48))
    assert set(np.unique(small)) == {0, 1, 3}
    assert np.count_nonzero(small) * (120 / 48) ** 2 == pytest.approx(60 * 40, rel=0.05)
    assert np.count_nonzero(small == 3) * (120 / 48) ** 2 == pytest.approx(400, rel=0.05)


@given(row=st.integers(0, 199), col=st.integers(0, 199), size=st.sampled_from([32, 64, 160, 256]))
def test_a_single_voxel_never_vanishes(row: int, col: int, size: int) -> None:
    mask = np.zeros((200, 200), np.uint8)
    mask[row, col] = 2
    assert set(np.unique(resize_labels(mask, (size, size)))) == {0, 2}


def test_geometry_round_trips_through_json() -> None:
    geometry = Geometry((9, 40, 30), -3, 4, 33, 44, (1, 2, 8))
    assert Geometry.from_json(geometry.to_json(), [1, 2, 8]) == geometry


def test_dropped_slices_are_empty_ones_in_the_volume() -> None:
    masks = np.ones((3, 2, 2), bool)
    volume = pad_missing_slices(masks, [7, 4, 9])
    assert volume.any(axis=(1, 2)).tolist() == [True, False, False, True, False, True]


@pytest.mark.parametrize("shape", [(97, 110), (64, 150), (130, 64)])
def test_channels_that_are_resized_together_are_those_resized_alone(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(2)
    parts = [rng.standard_normal(shape, np.float32) for _ in range(4)]
    together = cv2.split(resize_image(cv2.merge(parts), (64, 64)))
    for part, resized in zip(parts, together, strict=True):
        np.testing.assert_array_equal(resize_image(part, (64, 64)), resized)
