import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from slicewise.metrics import surface_distance

Bools = NDArray[np.bool_]


def blobs(seed: int, shape: tuple[int, ...]) -> tuple[Bools, Bools]:
    """Return two overlapping ellipsoids with ragged borders."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.arange(size) for size in shape), indexing="ij"), axis=-1)
    masks = []
    for _ in range(2):
        centre = np.array(shape) / 2 + rng.uniform(-2, 2, len(shape))
        radius = np.array(shape) / 4 + rng.uniform(-1, 1, len(shape))
        inside = (((grid - centre) / radius) ** 2).sum(axis=-1) + 0.3 * rng.random(shape)
        masks.append(inside < 1)
    return masks[0], masks[1]


def brute_force(
    reference: Bools, predicted: Bools, spacing: tuple[float, ...]
) -> surface_distance.SurfaceDistances:
    """Find the borders by looking at every neighbour, and measure every pair of border pixels."""
    points = []
    for mask in (reference, predicted):
        padded = np.pad(mask, 1)
        edge = np.zeros_like(mask)
        for axis in range(mask.ndim):
            for step in (-1, 1):
                edge |= mask & ~np.roll(padded, step, axis)[(slice(1, -1),) * mask.ndim]
        points.append(np.argwhere(edge) * np.array(spacing))
    table = cdist(*points)
    return surface_distance.SurfaceDistances(table.min(axis=1), table.min(axis=0))


@pytest.mark.parametrize(("shape", "spacing"), [((24, 20), (1.0, 1.0)), ((9, 14, 16), (5.0, 1.5, 1.5))])
@pytest.mark.parametrize("seed", range(3))
def test_distances_agree_with_every_pair_measured(
    seed: int, shape: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    masks = blobs(seed, shape)
    found, expected = surface_distance.surface_distances(*masks, spacing), brute_force(*masks, spacing)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.sort(ours), np.sort(theirs), rtol=1e-6)


@pytest.mark.filterwarnings("ignore")  # what other packages say while MONAI imports them
@pytest.mark.parametrize("case", ["random", "touches the edge", "one pixel", "a pixel far away"])
def test_scores_agree_with_monai(case: str) -> None:
    import torch
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    spacing = (5.0, 1.5, 1.5)
    reference, predicted = blobs(4, (9, 14, 16))
    if case == "touches the edge":
        reference[:, :7], predicted[:5] = True, True
    if case in ("one pixel", "a pixel far away"):
        reference[:], predicted[:] = False, False
        reference[4, 5, 5] = predicted[(4, 5, 6) if case == "one pixel" else (0, 13, 0)] = True
    tensors = [torch.from_numpy(mask[None, None]) for mask in (predicted, reference)]
    distances = surface_distance.surface_distances(reference, predicted, spacing)
    theirs = compute_hausdorff_distance(*tensors, percentile=95, spacing=spacing, include_background=True)
    assert surface_distance.hd95(distances) == pytest.approx(float(theirs), rel=1e-5)
    for tolerance in (1.0, 2.0, 5.0):
        share = compute_surface_dice(
            *tensors, class_thresholds=[tolerance], spacing=spacing, include_background=True
        )
        assert surface_distance.surface_dice(distances, tolerance) == pytest.approx(float(share), rel=1e-5)


def test_boundary_f1_is_the_harmonic_mean_of_both_directions() -> None:
    distances = brute_force(*blobs(5, (24, 20)), (1.0, 1.0))
    recall, precision = (float(np.mean(part <= 1)) for part in distances)
    found = surface_distance.boundary_f1(
        surface_distance.surface_distances(*blobs(5, (24, 20)), (1.0, 1.0)), 1
    )
    assert found == pytest.approx(2 * recall * precision / (recall + precision))
    assert surface_distance.boundary_tolerance(256) == pytest.approx(2.715, abs=1e-3)


@pytest.mark.parametrize(
    ("truth", "guess", "hd95", "score"),
    [([], [], None, 1.0), ([], [3], None, 0.0), ([3], [], None, 0.0), ([3], [3], 0.0, 1.0)],
    ids=["both empty", "false alarm", "missed", "one pixel"],
)
def test_empty_masks(truth: list[int], guess: list[int], hd95: float | None, score: float) -> None:
    masks = np.zeros((2, 4, 4), bool)
    masks[0].flat[truth], masks[1].flat[guess] = True, True
    distances = surface_distance.surface_distances(masks[0], masks[1], (1.0, 1.0))
    assert surface_distance.hd95(distances) == hd95
    assert surface_distance.surface_dice(distances, 1.0) == score
    assert surface_distance.boundary_f1(distances, 1.0) == score


def test_one_missed_case_makes_the_pooled_distance_undefined_and_the_pooled_share_smaller() -> None:
    empty, full = np.zeros((4, 4), bool), np.ones((4, 4), bool)
    found = surface_distance.surface_distances(full, full, (1.0, 1.0))
    missed = surface_distance.surface_distances(full, empty, (1.0, 1.0))
    pooled = surface_distance.SurfaceDistances.pooled([found, missed])
    assert surface_distance.hd95(pooled) is None
    assert surface_distance.surface_dice(pooled, 1.0) == pytest.approx(2 / 3)
