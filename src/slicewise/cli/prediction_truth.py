"""`slicewise predict --truth`: the masks that predictions are compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from slicewise.core.console import say
from slicewise.core.disk import expand_user
from slicewise.core.errors import UsageError
from slicewise.domain.labels import SEGMENTATION
from slicewise.domain.tables import plural
from slicewise.evaluation.given_reference import (
    compare_with_reference,
    find_references,
    read_reference,
    references_of,
)
from slicewise.tasks.build import find_segmentation

if TYPE_CHECKING:
    from slicewise.data.cases import CaseFiles
    from slicewise.imaging.volume import Volume
    from slicewise.inference.pipeline import Pipeline
    from slicewise.inference.prediction import Prediction
    from slicewise.inference.prediction_rows import PredictionRow


@dataclass(frozen=True)
class Comparison:
    """A prediction beside its reference."""

    scores: Mapping[str, float | None]
    """`dice`, `iou`, and of several classes `dice_<class>`, `iou_<class>`"""
    reference: NDArray[np.bool_]
    """[slice, row, col] all classes as one"""


class Truth:
    """The masks of cases: a file of the only case, or a folder of masks named like their cases."""

    def __init__(self, masks: Mapping[str, Sequence[Path]]) -> None:
        self._masks = masks

    @classmethod
    def given(cls, path: Path | None, cases: "Sequence[CaseFiles]", pipeline: "Pipeline") -> Self | None:
        """Return the masks of some cases; None without a path.

        Raises:
            UsageError: there is no such path, no case has a mask in it, or the model does not segment.
        """
        if path is None:
            return None
        path = expand_user(path)
        if SEGMENTATION not in pipeline.tasks:
            raise UsageError("--truth: this model predicts no masks; leave the option out")
        if not path.exists():
            raise UsageError(f"--truth {path} does not exist; name a mask, or a folder of masks")
        if path.is_file():
            if len(cases) > 1:
                raise UsageError(
                    f"--truth {path} is one mask, and there are {plural(len(cases), 'case')}; name a folder "
                    "with a mask for each, named like the case"
                )
            return cls({cases[0].key.case: [path]})
        found = find_references(path)
        masks = {case.key.case: references_of(case, found) for case in cases}
        if not any(masks.values()):
            name = cases[0].key.case
            raise UsageError(
                f"--truth {path} holds no mask of any case; expected names such as {name}, {name}_seg or "
                f"{name}_mask"
            )
        return cls(masks)

    def compare(self, prediction: "Prediction", volume: "Volume", pipeline: "Pipeline") -> Comparison | None:
        """Return the agreement of a prediction with its mask; None without one.

        Raises:
            DataError: the mask is damaged, or does not fit the images.
        """
        segmentation, paths = find_segmentation(pipeline.tasks), self._masks[prediction.case]
        if not paths or segmentation is None:
            return None
        reference = read_reference(paths, volume, segmentation)
        scores: dict[str, float | None] = {}
        for name, agreement in compare_with_reference(prediction, reference).items():
            suffix = f"_{name}" if prediction.classes.several and name != "all" else ""
            scores |= {f"dice{suffix}": agreement.dice, f"iou{suffix}": agreement.iou}
        return Comparison(dict(sorted(scores.items())), np.any(reference, axis=0))

    def print_summary(self, rows: "Sequence[PredictionRow]") -> None:
        """Print the mean Dice and IoU of the cases that have a mask."""
        scored = [row for row in rows if row.error is None and "dice" in row.scores]
        means = [float(np.mean([row.scores[name] or 0.0 for row in scored])) for name in ("dice", "iou")]
        without = sum(row.error is None for row in rows) - len(scored)
        missing = f"; {plural(without, 'case')} without a mask" if without else ""
        say(f"Dice {means[0]:.3f}, IoU {means[1]:.3f}: means over {plural(len(scored), 'case')}{missing}")
