"""A metric of another package: the volumetric similarity of Taha and Hanbury (2015).

Its pyproject.toml offers it:

    [project.entry-points."slicewise.metrics"]
    volumetric_similarity = "metric:VOLUMETRIC_SIMILARITY"
"""

import numpy as np

from slicewise.metrics.confusion import Floats
from slicewise.metrics.table import MaskPairs, Metric


def volumetric_similarity(pairs: MaskPairs) -> Floats:
    """Return 1 - ||A| - |B|| / (|A| + |B|) of each pair of masks, NaN where both are empty."""
    extent = np.add(pairs.reference, pairs.predicted)
    difference = np.abs(np.subtract(pairs.reference, pairs.predicted))
    return np.where(extent > 0, 1 - difference / np.maximum(extent, 1), np.nan)


VOLUMETRIC_SIMILARITY = Metric(
    name="volumetric_similarity",
    label="volumetric similarity",
    definition="1 - ||A| - |B|| / (|A| + |B|) (Taha and Hanbury 2015)",
    level="slice",
    better="higher",
    compute=volumetric_similarity,
    undefined="undefined where both masks are empty",
)
