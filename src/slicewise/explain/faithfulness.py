"""Faithfulness of saliency maps: deletion and insertion curves (Petsiuk 2018), randomization (Adebayo 2018).

The randomization test asks whether a map depends on what the model has learnt.
"""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import spearmanr
from torch import nn

from slicewise.config.schema.training import Part
from slicewise.models.multitask import MultitaskModel, modules_by_part

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Classify = Callable[[Floats], Floats]
"""Pictures [S, C, N, N] -> probability of a tumour [S]."""

STEPS: Final = 10
BASELINE: Final = 0.0
"""Value of a deleted pixel: a z-score of 0 is the mean of the brain, and the value outside it."""
CASCADE_ORDER: Final[tuple[Part, ...]] = ("head", "decoder", "encoder")
"""From the output to the input; at each level the parts before it stay randomized."""

_SEED: Final = 0
_BLOB: Final = 1 / 16  # standard deviation of the random blobs, as a share of the image side


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
    tie_break = np.random.default_rng(_SEED).permutation(inside.size)
    ranks = np.empty(inside.size, np.int64)
    for saliency in saliency_maps.values():
        # In the order of deletion: by saliency, outside pixels last.
        ranks[np.lexsort((tie_break, -saliency.ravel(), ~inside.ravel()))] = np.arange(inside.size)
        removed = ranks.reshape(inside.shape) < counts[:, None, None]
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


def randomize_cascade(model: MultitaskModel, seed: int) -> Iterator[tuple[Part, MultitaskModel]]:
    """Yield (part randomized last, a copy of the model); each yield changes the same copy further."""
    randomized = copy.deepcopy(model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in CASCADE_ORDER:
            _reinitialize(modules_by_part(randomized)[part])
            state = torch.random.get_rng_state()
            yield part, randomized
            torch.random.set_rng_state(state)


def _reinitialize(part: nn.Module) -> None:
    """Reset every layer, batch-norm statistics too; parameters without `reset_parameters` get N(0, 1)."""
    for module in part.modules():
        reset = getattr(module, "reset_parameters", None)
        if callable(reset):
            reset()
            continue
        for parameter in module.parameters(recurse=False):
            nn.init.normal_(parameter)


def rank_correlation(
    first: NDArray[np.float32], second: NDArray[np.float32], inside: NDArray[np.bool_]
) -> float:
    """Return Spearman's rank correlation (1904) of two maps [N, N] over the brain; 0 if one is constant."""
    values, others = first[inside], second[inside]
    if not (np.ptp(values) and np.ptp(others)):
        return 0.0
    return float(spearmanr(values, others).statistic)
