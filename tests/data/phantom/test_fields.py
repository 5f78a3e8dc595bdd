import numpy as np
import pytest

from slicewise.data.phantom.fields import MARGIN, SHAPE, Field, Points, bump, smoothstep


def axis(*values: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.array(values, dtype=np.float32)


@pytest.fixture
def points() -> Points:
    z, y, x = (np.arange(size / 2 - 12, size / 2 + 12, dtype=np.float32) for size in SHAPE)
    return Points.box(z, y, x)


def test_coordinates_follow_the_mask(points: Points) -> None:
    keep = np.zeros(points.mask.size, dtype=bool)
    keep[[0, 25, -1]] = True
    chosen = points.narrow(keep).coordinates()
    assert chosen.shape == (3, 3)
    np.testing.assert_array_equal(chosen[:, 0], [points.z[0], points.y[0], points.x[0]])
    np.testing.assert_array_equal(chosen[:, 1], [points.z[0], points.y[1], points.x[1]])
    np.testing.assert_array_equal(chosen[:, 2], [points.z[-1], points.y[-1], points.x[-1]])


def test_grid_is_the_inverse_of_the_mask(points: Points) -> None:
    keep = np.arange(points.mask.size) % 3 == 0
    chosen = points.narrow(keep)
    laid = chosen.grid(np.arange(1, keep.sum() + 1, dtype=np.int64))
    np.testing.assert_array_equal(laid[chosen.mask], np.arange(1, keep.sum() + 1))
    assert (laid[~chosen.mask] == 0).all()


def test_a_slice_of_a_field_is_the_slice_of_the_volume(points: Points, rng: np.random.Generator) -> None:
    field = Field(rng, 9)
    whole = points.grid(field.at(points))
    single = field.at(Points.box(points.z[5:6], points.y, points.x))
    np.testing.assert_allclose(single.reshape(whole[5].shape), whole[5], atol=1e-5)


def test_a_masked_field_equals_the_full_one(points: Points, rng: np.random.Generator) -> None:
    field, keep = Field(rng, 9), rng.random(points.mask.size) < 0.3
    np.testing.assert_array_equal(field.at(points.narrow(keep)), field.at(points)[keep])


def test_slabs_of_a_field_are_the_field(points: Points, rng: np.random.Generator) -> None:
    field, keep = Field(rng, 7), rng.random(points.mask.size) < 0.3
    chosen = points.narrow(keep)
    parts = [field.at(slab) for _, slab in chosen.slabs(5)]
    np.testing.assert_allclose(np.concatenate(parts), field.at(chosen), atol=1e-6)


def test_fields_have_unit_variance_and_their_length(rng: np.random.Generator) -> None:
    axes = [np.arange(0, size, 2, dtype=np.float32) for size in SHAPE]
    box = Points.box(axes[0], axes[1], axes[2])
    values = Field(rng, 10).at(box).reshape(box.mask.shape)
    assert values.std() == pytest.approx(1, abs=0.15)
    near = np.corrcoef(values[:-1].ravel(), values[1:].ravel())[0, 1]
    far = np.corrcoef(values[:-20].ravel(), values[20:].ravel())[0, 1]
    assert near > 0.9
    assert abs(far) < 0.2


def test_fields_reach_beyond_the_volume(rng: np.random.Generator) -> None:
    ends = [axis(-MARGIN, size + MARGIN - 1) for size in SHAPE]
    assert np.isfinite(Field(rng, 44).at(Points.box(*ends))).all()


def test_smoothstep_rises_or_falls() -> None:
    values = axis(-1, 0, 0.5, 1, 2)
    np.testing.assert_allclose(smoothstep(values, 0, 1), [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(smoothstep(values, 1, 0), [1, 1, 0.5, 0, 0])


def test_bump_peaks_at_zero() -> None:
    values = bump(axis(-3, 0, 3), 1)
    assert values[1] == 1
    assert values[[0, 2]].max() < 1e-3
