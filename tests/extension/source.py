"""A kind of data source of another package: pictures `images/x.png`, each with its mask `masks/x.png`.

Its pyproject.toml offers it:

    [project.entry-points."slicewise.sources"]
    mask_pairs = "source:MaskPairs"

and a configuration uses it: `data.sources.mine.kind=mask_pairs data.sources.mine.path=FOLDER`.
"""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from slicewise.config.schema import SourceSettings
from slicewise.core.errors import DataError
from slicewise.data.cases import CaseFiles
from slicewise.data.problems import Problem
from slicewise.data.sources.base import Discovered, Source
from slicewise.domain.keys import CaseKey, safe_name
from slicewise.domain.labels import EDEMA
from slicewise.imaging.io.image2d import open_picture, read_picture
from slicewise.imaging.volume import Volume, picture_volume


class MaskPairsSettings(SourceSettings):
    """Pictures with masks (`mask_pairs`)."""

    masks: str = "masks"
    """Folder of the masks, beside `images`."""
    unit: ClassVar = "picture"
    has_masks: ClassVar = True


class MaskPairs(Source[MaskPairsSettings]):
    """Pictures with a mask of the same name; every picture is a patient."""

    Settings = MaskPairsSettings
    suffixes = (".png",)

    def discover(self, root: Path) -> Discovered:
        cases, problems = [], []
        for path in self.read_files(root / "images"):
            mask, name = root / self.settings.masks / path.name, safe_name(path.stem)
            if mask.is_file():
                key = CaseKey(self.settings.name, name, name)
                cases.append(CaseFiles(key, "mask_pairs", ("flair",), (path,), (mask,), None, name))
            else:
                problems.append(Problem(path, "a picture without its mask, left out"))
        if not cases:
            raise DataError(f"{root} holds no images/x.png with a {self.settings.masks}/x.png")
        return cases, problems

    @classmethod
    def read(cls, case: CaseFiles) -> Volume:
        pixels = read_picture(case.images[0]).pixels
        volume = picture_volume(case.key, pixels, case.modalities[0])
        with open_picture(case.masks[0], ("PNG",)) as image:
            mask = np.asarray(image.convert("L")) > 0
        return replace(volume, mask=(mask[None] * EDEMA).astype(np.uint8))
