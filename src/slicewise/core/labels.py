"""The vocabulary of the field: modality slots and label values.

BraTS marks necrosis (NCR) 1, edema (ED) 2 and enhancing tumour (ET) 4; releases from 2023 write 3 for ET
(Menze 2015, Baid 2021). Whole tumour is any label, tumour core is NCR + ET.
"""

from typing import Final, Literal

Modality = Literal["t1", "t1ce", "t2", "flair"]
MODALITIES: Final[tuple[Modality, ...]] = ("t1", "t1ce", "t2", "flair")
NUM_MODALITIES: Final = len(MODALITIES)

NECROSIS: Final = 1
EDEMA: Final = 2
ENHANCING: Final = 3
"""Enhancing tumour as stored by SliceWise; a 4 read from a file becomes a 3."""
TUMOUR_LABELS: Final = (NECROSIS, EDEMA, ENHANCING)

Task = Literal["segmentation", "classification"]
SEGMENTATION: Final = "segmentation"
CLASSIFICATION: Final = "classification"
TASKS: Final[tuple[Task, ...]] = (SEGMENTATION, CLASSIFICATION)
"""The two tasks of the network, as `objective` and the metrics name them."""

CLASS_NAMES: Final[tuple[str, str]] = ("no_tumour", "tumour")


def modality_slot(modality: Modality) -> int:
    """Return the channel index that holds `modality` in every image SliceWise makes."""
    return MODALITIES.index(modality)
