"""What other programs make of an image before it comes to us: the brain in it stays where it was."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Image = NDArray[Any]
Disturb = Callable[[Image, NDArray[np.bool_], np.random.Generator], Image]
"""(image [slice, row, col], where the brain is, random numbers) to another image of the same brain."""


def z_scored_inside(image: Image, brain: NDArray[np.bool_], _: np.random.Generator) -> Image:
    tissue = image[brain].astype(np.float64)
    return np.asarray(np.where(brain, (image - tissue.mean()) / tissue.std(), 0))


def z_scored_inside_in_tenths(image: Image, brain: NDArray[np.bool_], rng: np.random.Generator) -> Image:
    """As int16: every tenth voxel of the brain becomes 0."""
    return np.asarray(np.rint(10 * z_scored_inside(image, brain, rng)), np.int16)


def z_scored_with_a_low_background(image: Image, brain: NDArray[np.bool_], rng: np.random.Generator) -> Image:
    return np.where(brain, z_scored_inside(image, brain, rng), -9)


def z_scored(image: Image, _: NDArray[np.bool_], __: np.random.Generator) -> Image:
    return np.asarray((image - image.mean()) / image.std())


def to_unit_range(image: Image, _: NDArray[np.bool_], __: np.random.Generator) -> Image:
    low, high = float(image.min()), float(image.max())
    return (image - low) / (high - low)


def to_symmetric_range(image: Image, brain: NDArray[np.bool_], rng: np.random.Generator) -> Image:
    return 2 * to_unit_range(image, brain, rng) - 1


def by_median_and_quartiles(image: Image, brain: NDArray[np.bool_], _: np.random.Generator) -> Image:
    tissue = image[brain].astype(np.float64)
    first, median, third = np.percentile(tissue, [25, 50, 75])
    return np.where(brain, (image - median) / (third - first), 0)


def by_median_and_quartiles_of_all(image: Image, _: NDArray[np.bool_], __: np.random.Generator) -> Image:
    median = np.median(image)
    return np.asarray((image - median) / (np.percentile(image, 95) - median))


def plus(constant: float) -> Disturb:
    return lambda image, _, __: image.astype(np.float64) + constant


def times(factor: float) -> Disturb:
    return lambda image, _, __: image.astype(np.float64) * factor


def ringing(image: Image, _: NDArray[np.bool_], __: np.random.Generator) -> Image:
    """Interpolate to a coarser grid and back with cubic splines, as resampling does; integers stay such."""
    coarse = ndimage.zoom(image, 0.9, order=3)
    factors = [wanted / size for wanted, size in zip(image.shape, coarse.shape, strict=True)]
    return np.asarray(ndimage.zoom(coarse, factors, order=3))


def ringing_in_float(image: Image, brain: NDArray[np.bool_], rng: np.random.Generator) -> Image:
    return ringing(image.astype(np.float64), brain, rng)


def linear(image: Image, brain: NDArray[np.bool_], rng: np.random.Generator) -> Image:
    """Z-scores, then a shift of a quarter of a voxel with linear interpolation."""
    return np.asarray(ndimage.shift(z_scored_inside(image, brain, rng), (0, 0.25, 0.25), order=1))


def spikes(*sizes: float) -> Disturb:
    """Single voxels far out of range, as shares of the largest value: in the background and in the brain."""

    def disturb(image: Image, _: NDArray[np.bool_], rng: np.random.Generator) -> Image:
        spiked, most = image.astype(np.float64), float(np.abs(image).max())
        for size in sizes:
            spiked[tuple(rng.integers(0, image.shape))] = size * most
        spiked[0, 0, 0] = spiked[-1, -1, -1] = sizes[0] * most
        return spiked

    return disturb


def noise(share: float) -> Disturb:
    """Rician noise over the whole image, as a scanner's magnitude images have it."""

    def disturb(image: Image, brain: NDArray[np.bool_], rng: np.random.Generator) -> Image:
        sigma = share * np.median(image[brain])
        return np.hypot(image + rng.normal(0, sigma, image.shape), rng.normal(0, sigma, image.shape))

    return disturb


def noisy_and(later: Disturb) -> Disturb:
    return lambda image, brain, rng: later(noise(0.02)(image, brain, rng), brain, rng)


def padded_with(value: float) -> Disturb:
    """Columns outside the field of view, as resampling to another grid fills them."""

    def disturb(image: Image, _: NDArray[np.bool_], __: np.random.Generator) -> Image:
        padded, width = image.astype(np.float64), image.shape[2] // 16
        padded[:, :, :width] = padded[:, :, -width:] = value
        return padded

    return disturb


def outside_is(value: float) -> Disturb:
    return lambda image, brain, _: np.where(brain, image, value)


DISTURBANCES: Final[Mapping[str, Disturb]] = {
    "z-scored inside": z_scored_inside,
    "z-scored inside, in tenths": z_scored_inside_in_tenths,
    "z-scored inside, -9 outside": z_scored_with_a_low_background,
    "z-scored": z_scored,
    "0 to 1": to_unit_range,
    "-1 to 1": to_symmetric_range,
    "median and quartiles": by_median_and_quartiles,
    "median and percentile of all": by_median_and_quartiles_of_all,
    "plus 7": plus(7),
    "plus 1000": plus(1000),
    "minus 1024": plus(-1024),
    "times 0.001": times(0.001),
    "times 40": times(40),
    "ringing": ringing,
    "ringing in float": ringing_in_float,
    "z-scored inside, linear": linear,
    "a low spike": spikes(-0.5),
    "a high spike": spikes(3),
    "huge spikes": spikes(-1e6, 1e6),
    "noise": noise(0.02),
    "noise, z-scored": noisy_and(z_scored),
    "noise, minus 1024": noisy_and(plus(-1024)),
    "noise, plus 1000": noisy_and(plus(1000)),
    "padded with -1024": padded_with(-1024),
    "noise, padded with -1024": noisy_and(padded_with(-1024)),
    "-1024 outside": outside_is(-1024),
}
