"""Which pictures the page shows, in which size and under which words."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slicewise.reporting.facts import Folders
from slicewise.reporting.pictures import data_uri

MOST_HEAT_PAGES: Final = 4
_WIDE, _HALF = 1400, 1000


@dataclass(frozen=True)
class Figure:
    """A picture inside the page; `text` says what it shows, for those who cannot see it too."""

    uri: str
    text: str
    wide: bool = False


@dataclass(frozen=True)
class Figures:
    """All pictures of the page. Of the pages of heat the first few; `num_heat` counts those that exist."""

    curves: tuple[Figure, ...]
    scores: tuple[Figure, ...]
    phases: Figure
    samples: Figure
    failures: tuple[Figure, ...]
    heat: tuple[Figure, ...]
    num_heat: int
    faithfulness: Figure | None
    """None where no slice was called tumour: there was no evidence to delete"""
    subsets: tuple[Figure, ...]
    """Empty where the network was not asked with fewer modalities"""


def read_figures(folders: Folders) -> Figures:
    """Read and shrink the pictures.

    Raises:
        WorkspaceError: one is missing or damaged.
    """
    evaluation, failures = folders.evaluation, folders.failures
    heat = sorted(folders.gradcam.glob("page_*.png"))
    curves = folders.gradcam / "deletion_insertion.png"
    return Figures(
        curves=tuple(
            _figure(folder / "curves.png", f"Losses and validation metrics of {name}", wide=True)
            for name, folder in folders.stages.items()
        ),
        scores=(
            _figure(evaluation / "confusion_matrix.png", "Confusion matrices of the slices, per source"),
            _figure(evaluation / "metric_distribution.png", "Dice and IoU of each test patient"),
            _figure(evaluation / "roc_curve.png", "ROC curves of the slices, with operating points"),
            _figure(evaluation / "reliability_diagram.png", "Reliability before and after the choices"),
        ),
        phases=_figure(folders.phases / "phase_comparison.png", "The three stages compared", wide=True),
        samples=_figure(
            evaluation / "sample_predictions.png", "Masks of test patients, from good to bad", wide=True
        ),
        failures=(
            _figure(failures / "failures.png", "Failures: image, reference, prediction", wide=True),
            _figure(failures / "iou_of_failures.png", "IoU of the failures"),
            _figure(failures / "confusion_matrices.png", "Confusion: all slices, and those that failed"),
        ),
        heat=tuple(
            _figure(path, f"Anatomy, truth and the heat of each method, {path.stem}", wide=True)
            for path in heat[:MOST_HEAT_PAGES]
        ),
        num_heat=len(heat),
        faithfulness=_figure(curves, "Tumour probability while the hottest parts are deleted or inserted")
        if curves.exists()
        else None,
        subsets=tuple(
            _figure(path, f"Dice and AUC by the modalities given, {path.stem}", wide=True)
            for path in sorted(folders.ablations.glob("*.png"))
        ),
    )


def _figure(path: Path, text: str, *, wide: bool = False) -> Figure:
    return Figure(data_uri(path, _WIDE if wide else _HALF), text, wide)
