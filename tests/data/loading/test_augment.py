from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from slicewise.config.compose import compose
from slicewise.config.schema import Augmentation
from slicewise.data.loading.augment import AugmentationParams, apply_augmentation, draw_augmentation
from slicewise.data.loading.dataset import Batch

SIZE = 64
NOTHING = {
    "flip": 0,
    "vertical_flip": 0,
    "rotation": 0,
    "scale": 0,
    "translation": 0,
    "elastic": 0,
    "intensity": 0,
    "bias": 0,
    "noise": 0,
}


def settings(**changed: float) -> Augmentation:
    return Augmentation.model_validate({**NOTHING, **changed})


def brains(presence: list[list[float]] | None = None) -> Batch:
    """A disc of intensity 1 in every filled slot, with a rectangle of intensity 3 that is also the mask."""
    filled = torch.tensor(presence or [[1.0, 1, 1, 1]] * 6)
    row, col = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    disc = ((row - 32) ** 2 + (col - 32) ** 2 < 24**2).float()
    mask = torch.zeros(SIZE, SIZE)
    mask[22:34, 36:46] = 1
    images = (disc + 2 * mask) * filled[:, :, None, None]
    count = len(filled)
    return Batch(
        images=images,
        presence=filled,
        masks=mask.expand(count, 1, SIZE, SIZE).clone(),
        has_mask=torch.ones(count, dtype=torch.bool),
        labels=torch.ones(count),
    )


def draw(batch: Batch, *, seed: float = 0, dropout: float = 0, **changed: float) -> AugmentationParams:
    return draw_augmentation(settings(**changed), dropout, batch.presence, int(seed))


def change(batch: Batch, **changed: float) -> Batch:
    return apply_augmentation(batch, draw(batch, **changed))


def test_nothing_asked_changes_nothing() -> None:
    batch = brains()

    assert torch.equal(change(batch).images, batch.images)
    assert draw(batch).affine is None


GEOMETRIC: list[dict[str, float]] = [
    {"flip": 1},
    {"vertical_flip": 1},
    {"rotation": 40},
    {"scale": 0.3},
    {"translation": 0.2},
    {"elastic": 0.04},
    {"flip": 0.5, "rotation": 30, "scale": 0.2, "translation": 0.1, "elastic": 0.03},
]


@pytest.mark.parametrize("changed", GEOMETRIC, ids=lambda changed: "+".join(changed))
def test_image_and_mask_move_together(changed: dict[str, float]) -> None:
    batch = brains()
    moved = change(batch, **changed)

    bright = (moved.images[:, :1] > 2).float()
    assert not torch.equal(moved.masks, batch.masks)
    assert dice(bright, moved.masks) > 0.97
    assert set(moved.masks.flatten().tolist()) == {0, 1}


def test_a_mirror_is_exact_and_left_right() -> None:
    batch = brains()
    moved = change(batch, flip=1)

    assert torch.allclose(moved.images, batch.images.flip(-1), atol=1e-5)
    assert torch.equal(moved.masks, batch.masks.flip(-1))


def test_a_vertical_mirror_is_exact_and_top_down() -> None:
    batch = brains()
    moved = change(batch, vertical_flip=1)

    assert torch.allclose(moved.images, batch.images.flip(-2), atol=1e-5)
    assert torch.equal(moved.masks, batch.masks.flip(-2))
    both = change(batch, flip=1, vertical_flip=1)
    assert torch.equal(both.masks, batch.masks.flip((-1, -2)))


def test_natural_pictures_are_mirrored_both_ways_bent_and_change_their_colours_with_their_masks() -> None:
    preset = compose(["augmentation=natural"]).training.augmentation
    batch = brains([[1.0, 1, 1]] * 40)
    moved = apply_augmentation(batch, draw_augmentation(preset, 0, batch.presence, 0))

    bright = (moved.images.mean(1, keepdim=True) > 2).float()
    assert dice(bright, moved.masks) > 0.95
    rows = torch.arange(SIZE).float() @ moved.masks[:, 0].sum(2).T / moved.masks[:, 0].sum((1, 2))
    assert 10 < int((rows > 32).sum()) < 30  # the mask lies above the middle
    levels = (moved.images * moved.masks).sum((2, 3)) / moved.masks.sum((2, 3))
    assert (levels.std(1) > 0.05).float().mean() > 0.8  # each channel by itself


def test_about_half_are_mirrored_at_one_half() -> None:
    batch = brains([[1.0, 1, 1, 1]] * 400)
    moved = change(batch, flip=0.5)
    mirrored = (moved.masks != batch.masks).flatten(1).any(1).float().mean()

    assert 0.4 < mirrored < 0.6


def test_geometry_stays_within_its_bounds() -> None:
    batch = brains([[1.0, 1, 1, 1]] * 500)
    affine = draw(batch, rotation=20, scale=0.25, translation=0.1).affine
    assert affine is not None
    zoom = affine[:, :, :2].det().sqrt()
    angle = torch.atan2(affine[:, 1, 0], affine[:, 1, 1]).rad2deg()

    assert angle.abs().max() == pytest.approx(20, abs=0.5)
    assert float(1 / zoom.max()) == pytest.approx(0.75, abs=0.01)
    assert float(1 / zoom.min()) == pytest.approx(1.25, abs=0.01)
    assert affine[:, :, 2].abs().max() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize("size", [96, 160])
def test_elastic_is_a_smooth_displacement_of_the_size_asked_for(size: int) -> None:
    """As strong as the configuration has it, it bends the image and never folds it over itself."""
    strength = compose(["augmentation=strong"]).training.augmentation.elastic
    points = draw(brains([[1.0, 1, 1, 1]] * 200), elastic=strength).displacement
    assert points is not None
    shift = interpolate(points, size=(size, size), mode="bicubic") * size / 2
    down, across = shift.diff(dim=2)[:, :, :, :-1], shift.diff(dim=3)[:, :, :-1]
    area = (1 + across[:, 0]) * (1 + down[:, 1]) - across[:, 1] * down[:, 0]

    assert float(shift.std()) == pytest.approx(strength * size, rel=0.25)
    assert float(area.min()) > 0
    assert float(((area > 2) | (area < 0.5)).float().mean()) < 0.01


def test_the_edge_of_the_brain_is_neither_mixed_with_the_outside_nor_pushed_out() -> None:
    """Inside is 1: halfway to the 0 outside, a pixel would look like other tissue."""
    batch = brains([[1.0, 0, 0, 1]] * 20)
    images = (batch.images != 0).float()
    moved = change(replace(batch, images=images), rotation=30, translation=0.05)
    inside = moved.images[:, 0] != 0

    assert moved.images[:, 0][inside].tolist() == pytest.approx([1.0] * int(inside.sum()), abs=1e-5)
    assert int(inside.sum()) == pytest.approx(int((images[:, 0] != 0).sum()), rel=0.01)
    assert not moved.images[:, 1].any()


@pytest.mark.parametrize("level", [-3.2, -1.5])
def test_bias_multiplies_what_was_measured_by_one_smooth_field(level: float) -> None:
    """The darkest pixel is what no signal looks like: it stays, and the others change in proportion."""
    batch = brains([[1.0, 1, 1, 1]] * 50)
    images = batch.images + level * (batch.images != 0)
    images[:, :, 30, 30] = level
    moved = change(replace(batch, images=images), bias=0.3)
    bright = (batch.images != 0) & (images > level)
    gain = ((moved.images - level) / (images - level)).where(bright, torch.nan)
    steps = gain[:, 0].diff(dim=-1)
    steps = steps[steps.isfinite()].abs()

    assert torch.equal(moved.images[:, :, 30, 30], images[:, :, 30, 30])
    assert torch.allclose(gain[:, 0], gain[:, 3], atol=1e-4, equal_nan=True)
    assert 0.2 < float((gain[bright] - 1).abs().max()) < 0.3
    assert 0 < float(steps.max()) < 0.03
    assert not torch.allclose(gain[0, 0], gain[1, 0], equal_nan=True)


def test_a_large_bias_never_turns_an_image_inside_out() -> None:
    batch = brains([[1.0, 0, 0, 0]] * 2000)
    points = draw(batch, bias=0.99).bias
    assert points is not None
    gain = interpolate(points, size=(SIZE, SIZE), mode="bicubic")

    assert float(gain.abs().max()) < 0.99


@pytest.mark.parametrize("changed", [{"intensity": 0.3}, {"noise": 0.5}, {"bias": 0.2}])
def test_intensity_and_noise_change_the_inside_of_filled_slots_alone(changed: dict[str, float]) -> None:
    batch = brains([[1.0, 0, 0, 1]] * 6)
    moved = change(batch, **changed)
    inside = batch.images != 0

    assert not torch.equal(moved.images, batch.images)
    assert float(moved.images[~inside].abs().max()) == 0
    assert torch.equal(moved.masks, batch.masks)


def test_intensity_is_drawn_per_image_and_modality_within_its_bounds() -> None:
    changes = draw(brains([[1.0, 1, 1, 1]] * 300), intensity=0.3)

    assert len(set(changes.contrast.flatten().tolist())) > 1000
    assert 0.7 <= float(changes.contrast.min()) < 0.71
    assert 1.29 < float(changes.contrast.max()) <= 1.3
    assert float(changes.brightness.abs().max()) <= 0.3


def test_noise_has_the_deviation_asked_for() -> None:
    batch = brains()
    difference = (change(batch, noise=0.5).images - batch.images)[batch.images != 0]

    assert float(difference.std()) == pytest.approx(0.5, rel=0.05)


def test_noise_differs_between_images_and_batches() -> None:
    batch = brains()
    first, second = (change(batch, seed=seed, noise=0.5).images - batch.images for seed in (1, 2))

    assert not torch.equal(first, second)
    assert len({image.sum().item() for image in (*first, *second)}) == 2 * len(batch)


def test_dropped_modalities_are_emptied_and_one_always_stays() -> None:
    batch = brains([[1.0, 1, 1, 1], [0, 0, 0, 1], [1, 0, 0, 1]] * 200)
    dropped = change(batch, dropout=0.9)

    assert int(dropped.presence.sum(1).min()) == 1
    assert torch.all(dropped.presence <= batch.presence)
    assert torch.equal((dropped.images != 0).flatten(2).any(2).float(), dropped.presence)
    assert torch.equal(dropped.presence[1::3], batch.presence[1::3])


def test_every_number_of_remaining_modalities_is_as_likely() -> None:
    dropped = change(brains([[1.0, 1, 1, 1]] * 4000), dropout=0.8)
    shares = torch.bincount(dropped.presence.sum(1).long(), minlength=5) / 4000

    assert shares[1:4].tolist() == pytest.approx([0.2] * 3, abs=0.03)
    assert float(shares[4]) == pytest.approx(0.4, abs=0.03)
    assert dropped.presence.mean(0).tolist() == pytest.approx([0.7] * 4, abs=0.03)


ALL = {
    "flip": 0.5,
    "rotation": 15,
    "scale": 0.1,
    "translation": 0.05,
    "elastic": 0.03,
    "intensity": 0.2,
    "bias": 0.1,
    "noise": 0.1,
}


def test_changes_are_replayed_exactly_and_seeds_differ() -> None:
    batch = brains()
    changes = draw(batch, seed=5, dropout=0.3, **ALL)

    assert same(apply_augmentation(batch, changes), apply_augmentation(batch, changes))
    assert same(change(batch, seed=5, dropout=0.3, **ALL), apply_augmentation(batch, changes))
    assert not same(change(batch, seed=6, dropout=0.3, **ALL), apply_augmentation(batch, changes))


def test_the_batch_given_is_left_as_it_was() -> None:
    batch = brains()
    before = replace(batch, images=batch.images.clone(), presence=batch.presence.clone())
    change(batch, dropout=0.5, **ALL)

    assert same(batch, before)


def same(first: Batch, second: Batch) -> bool:
    pairs: list[tuple[Any, Any]] = [(getattr(first, n), getattr(second, n)) for n in vars(first)]
    return all(torch.equal(a, b) for a, b in pairs)


def dice(first: Tensor, second: Tensor) -> float:
    return float(2 * (first * second).sum() / (first.sum() + second.sum()))
