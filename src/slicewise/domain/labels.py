"""Channels and label values.

BraTS marks necrosis (NCR) 1, edema (ED) 2 and enhancing tumour (ET) 4; releases from 2023 write 3 for ET
(Menze 2015, Baid 2021). Whole tumour is any label, tumour core is NCR + ET.
"""

from collections.abc import Mapping
from typing import Final, Literal

Modality = Literal["t1", "t1ce", "t2", "flair"]
MODALITIES: Final[tuple[Modality, ...]] = ("t1", "t1ce", "t2", "flair")
NUM_MODALITIES: Final = len(MODALITIES)

GREY: Final = "grey"
COLOURS: Final = ("red", "green", "blue")
"""Channels of pictures that are no scans: a grey one fills all three; of colours, grey is the luminance."""

NECROSIS: Final = 1
EDEMA: Final = 2
ENHANCING: Final = 3
"""Enhancing tumour as stored by SliceWise; a 4 read from a file becomes a 3."""
TUMOUR_LABELS: Final = (NECROSIS, EDEMA, ENHANCING)

LabelMap = tuple[tuple[int, int], ...]
"""(value in a file, label 0 to 3); 0 is the background."""
LABEL_FORMATS: Final[Mapping[str, LabelMap]] = {
    "brats2015": ((1, NECROSIS), (2, EDEMA), (3, NECROSIS), (4, ENHANCING)),
    "brats2021": ((1, NECROSIS), (2, EDEMA), (4, ENHANCING)),
    "brats2023": ((1, NECROSIS), (2, EDEMA), (3, ENHANCING)),
    "brats2024": ((1, NECROSIS), (2, EDEMA), (3, ENHANCING), (4, 0)),
    "brats_ped": ((1, ENHANCING), (2, NECROSIS), (3, NECROSIS), (4, EDEMA)),
    "msd": ((1, EDEMA), (2, NECROSIS), (3, ENHANCING)),
}
"""brats2015: 2012 to 2016, 3 is the non-enhancing core (Menze 2015). brats2024: after treatment, 4 is the
resection cavity, which is no tumour (de Verdier 2024). brats_ped: 1 ET, 2 NET, 3 cyst, 4 ED (Kazerooni 2024).
msd: Task01 of the Medical Segmentation Decathlon (Antonelli 2022)."""

MAX_CLASSES: Final = 128
"""Of a slice: their numbers are stored in signed bytes."""

Task = Literal["segmentation", "classification"]
SEGMENTATION: Final = "segmentation"
CLASSIFICATION: Final = "classification"
TASKS: Final[tuple[Task, ...]] = (SEGMENTATION, CLASSIFICATION)
"""The two tasks of the model, as `objective` and the metrics name them."""

UNCERTAIN: Final = "uncertain"
"""The verdict on a case whose probability is within the configured band of the threshold"""

NOTICE: Final = "Research use only. Not a medical device; not for diagnosis."
SYNTHETIC_WARNING: Final = (
    "The model was trained on generated patients only. Do not expect it to read real MRI well."
)
"""Both are stated with every prediction"""


def modality_slot(modality: str) -> int:
    """Return the place of a modality among MODALITIES."""
    return [str(name) for name in MODALITIES].index(modality)
