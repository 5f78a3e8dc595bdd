"""From the slices of a volume to one number for all of it."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.float32]


def tumour_probability(class_probability: NDArray[np.floating]) -> float:
    """Return the highest slice probability after a running mean over three slices (one slice: its own).

    A tumour spans neighbouring slices; a single slice that stands out is more often an artefact.
    """
    if len(class_probability) == 0:
        return 0.0
    padded = np.pad(class_probability.astype(np.float64), 1, mode="edge")
    return float(np.convolve(padded, np.full(3, 1 / 3), mode="valid").max())


def smooth_over_slices(values: Floats, sigma: float) -> Floats:
    """Average the slices [S, ...] of a volume with their neighbours, by a Gaussian of `sigma` slices.

    A network that sees one slice at a time knows nothing of the next one, where most tumours go on. The
    outermost slices stand for those that are missing beyond them.
    """
    smoothed: Floats = ndimage.gaussian_filter1d(values, sigma, axis=0, mode="nearest")
    return smoothed
