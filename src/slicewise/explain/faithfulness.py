"""Faithfulness of saliency maps: deletion and insertion curves (Petsiuk 2018).

On arrays; the classifier is an argument, so that the numbers can be tested on toy models.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Classify = Callable[[Floats], Floats]
"""Pictures [S, C, N, N] -> probability of a tumour [S]."""

STEPS: Final = 10
BASELINE: Final = 0.0
"""Value of a deleted pixel: a z-score of 0 is the mean of the brain, and the value outside it."""

_SEED: Final = 0
_BLOB: Final = 1 / 16
"""Standard deviation of the random blobs, as a share of the image side."""


@dataclass(frozen=True)
class Curves:
    """Probability of a tumour after the most salient `shares` of the brain are deleted or inserted.

    All [STEPS + 1]. The shares grow with the square of the step: equal steps would delete a whole tumour with
    the first one.
    """

    shares: Floats
    deletion: Floats
    insertion: Floats

    @property
    def deletion_auc(self) -> float:
        """Area under the deletion curve; lower is better."""
        return float(np.trapezoid(self.deletion, self.shares))

    @property
    def insertion_auc(self) -> float:
        """Area under the insertion curve; higher is better."""
        return float(np.trapezoid(self.insertion, self.shares))


def compute_curves(
    classify: Classify, image: Floats, saliency_maps: Mapping[str, Floats], inside: Bools
) -> dict[str, Curves]:
    """Return by name the curves of deleting and inserting pixels of one picture, the most salient first.

    `classify` gets the pictures of all maps at once; the whole and the empty picture are shared.

    Args:
        classify: the model.
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
    """Return a saliency map [N, N] of random blobs, the baseline of every method.

    Take another `seed` for each picture: blobs in one place could coincide with the usual place of tumours.
    """
    noise = np.random.default_rng([_SEED + 1, seed]).normal(size=inside.shape)
    blobs = gaussian_filter(noise, len(inside) * _BLOB)
    blobs -= blobs[inside].min()
    return np.where(inside, blobs / blobs[inside].max(), 0).astype(np.float32)


def _ranks(saliency: Floats, inside: Bools) -> NDArray[np.int64]:
    """Return each pixel's rank [N, N] in the order of deletion: by saliency, outside pixels last."""
    tie_break = np.random.default_rng(_SEED).permutation(saliency.size)
    order = np.lexsort((tie_break, -saliency.ravel(), ~inside.ravel()))
    ranks = np.empty(saliency.size, dtype=np.int64)
    ranks[order] = np.arange(saliency.size)
    return ranks.reshape(saliency.shape)
