"""Does heat name what the answer rests on? Deletion and insertion (Petsiuk 2018), likeness (Adebayo 2018).

Pure arrays: how a picture is answered is handed in, so that the numbers can be checked on toys.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Classify = Callable[[Floats], Floats]
"""Pictures [S, C, N, N] -> probability of a tumour [S]."""

STEPS: Final = 10
BASELINE: Final = 0.0
"""What a deleted pixel becomes: a z-score of 0 is the mean of the brain, and what lies outside of it."""

_SEED: Final = 0
_BLOB: Final = 1 / 16
"""Width of the random blobs, as a share of the side."""


@dataclass(frozen=True)
class Curves:
    """Probability of a tumour as the hottest part of the brain, `shares` of it, is deleted or inserted.

    All [STEPS + 1]. The shares grow with the square of the step: a tumour is a small part of a brain, and
    equal steps would delete it with the first one.
    """

    shares: Floats
    deletion: Floats
    insertion: Floats

    @property
    def deletion_auc(self) -> float:
        """Area under the deletion curve: the lower, the sooner the evidence was gone."""
        return float(np.trapezoid(self.deletion, self.shares))

    @property
    def insertion_auc(self) -> float:
        """Area under the insertion curve: the higher, the sooner the evidence was there."""
        return float(np.trapezoid(self.insertion, self.shares))


def compute_curves(
    classify: Classify, image: Floats, saliency_maps: Mapping[str, Floats], inside: Bools
) -> dict[str, Curves]:
    """Delete and insert the pixels of one picture, hottest first, by each heat.

    All pictures of the heats go through `classify` at once; the whole and the empty picture are shared.

    Args:
        classify: answers pictures.
        image: [C, N, N].
        saliency_maps: by name, [N, N] each. Equal pixels come in a random order, the same for all maps.
        inside: [N, N]; the pixels that are deleted and inserted, the brain. At least one.
    """
    shares = (np.arange(STEPS + 1) / STEPS) ** 2
    counts = np.rint(shares * np.count_nonzero(inside)).astype(int)[1:-1]
    pictures = [image[None], np.full_like(image, BASELINE)[None]]
    for saliency in saliency_maps.values():
        removed = _ranks(saliency, inside) < counts[:, None, None]
        pictures.append(np.where(removed[:, None], BASELINE, image).astype(np.float32))
        pictures.append(np.where(removed[:, None], image, BASELINE).astype(np.float32))
    scores = classify(np.concatenate(pictures)).astype(np.float32)
    whole, empty, between = scores[:1], scores[1:2], scores[2:].reshape(len(saliency_maps), 2, STEPS - 1)
    return {
        name: Curves(
            shares.astype(np.float32),
            np.concatenate([whole, deleted, empty]),
            np.concatenate([empty, inserted, whole]),
        )
        for name, (deleted, inserted) in zip(saliency_maps, between, strict=True)
    }


def random_saliency(inside: Bools, seed: int) -> Floats:
    """Return heat [N, N] of random blobs, which knows nothing of the picture: what a method must beat.

    Another `seed` for each picture: blobs that lay at one place in all of them would know where tumours
    usually are.
    """
    noise = np.random.default_rng([_SEED + 1, seed]).normal(size=inside.shape)
    blobs = gaussian_filter(noise, len(inside) * _BLOB)
    blobs -= blobs[inside].min()
    return np.where(inside, blobs / blobs[inside].max(), 0).astype(np.float32)


def rank_correlation(one: Floats, other: Floats, inside: Bools) -> float:
    """Return Spearman's rank correlation (1904) of two heats [N, N] over the brain.

    0 where one of them is the same everywhere: then nothing of the other is in it.
    """
    first, second = one[inside], other[inside]
    if not (np.ptp(first) and np.ptp(second)):
        return 0.0
    return float(spearmanr(first, second).statistic)


def _ranks(saliency: Floats, inside: Bools) -> NDArray[np.int64]:
    """Return each pixel's place in the order of deletion, hottest first; beyond all of them outside."""
    tie_break = np.random.default_rng(_SEED).permutation(saliency.size)
    order = np.lexsort((tie_break, -saliency.ravel(), ~inside.ravel()))
    ranks = np.empty(saliency.size, dtype=np.int64)
    ranks[order] = np.arange(saliency.size)
    return ranks.reshape(saliency.shape)
