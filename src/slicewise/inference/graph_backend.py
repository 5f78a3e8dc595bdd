"""Backends of a bundle's graphs: the mean over augmentations, in NumPy."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from slicewise.inference.backends import Floats
from slicewise.inference.ensemble import TTATransform
from slicewise.runtime.bundle import Bundle
from slicewise.runtime.graphs import GRAPHS, Graph
from slicewise.runtime.rotation import rotate

_LEAST_COVERAGE: Final = np.float32(1e-6)  # as in `torch_backend`
_NO_CLASSIFICATION: Final = np.float32(0.5)


class GraphBackend:
    """A graph of a bundle, by its name there."""

    def __init__(self, bundle: Bundle, num_threads: int, name: str) -> None:
        path = bundle.graph(name)
        self._graph: Graph = GRAPHS[bundle.graphs[name].runner](path, num_threads)

    def average(
        self, images: Floats, presence: Floats, transforms: Sequence[TTATransform]
    ) -> tuple[Floats, Floats]:
        """Return the mean over augmentations: of pixels [B, K, N, N], of slices [B] or [B, C]."""
        images, presence = np.ascontiguousarray(images), np.ascontiguousarray(presence)
        masks, classes, covered = [], [], []
        for transform in transforms:
            outputs = self._graph(_apply(transform, images), presence)
            no_mask, no_class = np.zeros_like(images[:, :1]), np.full(len(images), _NO_CLASSIFICATION)
            masks.append(_invert(transform, outputs.get("mask_probability", no_mask)))
            classes.append(outputs.get("class_probability", no_class))
            if transform.degrees:
                covered.append(coverage(transform, images.shape[-1]))
        if len(masks) == 1 and not covered:
            return masks[0], classes[0]
        weight = np.maximum(sum(covered, np.float32(len(masks) - len(covered))), _LEAST_COVERAGE)
        return np.stack(masks).sum(0) / weight, np.mean(classes, axis=0, dtype=np.float32)


def coverage(transform: TTATransform, size: int) -> Floats:
    """Return the share of each pixel that stays in view, [1, 1, size, size]."""
    return _invert(transform, _apply(transform, np.ones((1, 1, size, size), np.float32)))


def _apply(transform: TTATransform, images: Floats) -> Floats:
    turned = images[..., ::-1] if transform.flipped else images
    return np.ascontiguousarray(rotate(turned, transform.degrees))


def _invert(transform: TTATransform, outputs: Floats) -> Floats:
    turned = rotate(outputs, -transform.degrees)
    return turned[..., ::-1] if transform.flipped else turned
