"""Which pictures the page shows, in which size and under which words."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slicewise.reporting.pictures import data_uri
from slicewise.reporting.run_info import ResultFolders

MAX_GRADCAM_PAGES: Final = 4
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


def read_figures(folders: ResultFolders) -> Figures:
    """Read and shrink the pictures.

    Raises:
        WorkspaceError: one is missing or damaged.
    """
    evaluation, failures = folders.evaluation, folders.failures
    heat = sorted(folders.gradcam.glob("page_*.png"))
    curves = folders.gradcam / "deletion_insertion.png"
    return Figures(
        curves=tuple(
            _load_figure(folder / "curves.png", f"Losses and validation metrics of {name}", wide=True)
            for name, folder in folders.stages.items()
        ),
        scores=(
            _load_figure(evaluation / "confusion_matrix.png", "Confusion matrices of the slices, per source"),
            _load_figure(evaluation / "metric_distribution.png", "Dice and IoU of each test patient"),
            _load_figure(evaluation / "roc_curve.png", "ROC curves of the slices, with operating points"),
            _load_figure(evaluation / "reliability_diagram.png", "Reliability before and after the choices"),
        ),
        phases=_load_figure(folders.phases / "phase_comparison.png", "The three stages compared", wide=True),
        samples=_load_figure(
            evaluation / "sample_predictions.png", "Masks of test patients, from good to bad", wide=True
        ),
        failures=(
            _load_figure(failures / "failures.png", "Failures: image, reference, prediction", wide=True),
            _load_figure(failures / "iou_of_failures.png", "IoU of the failures"),
            _load_figure(failures / "confusion_matrices.png", "Confusion: all slices, and those that failed"),
        ),
        heat=tuple(
            _load_figure(path, f"Anatomy, truth and the heat of each method, {path.stem}", wide=True)
            for path in heat[:MAX_GRADCAM_PAGES]
        ),
        num_heat=len(heat),
        faithfulness=_load_figure(
            curves, "Tumour probability while the hottest parts are deleted or inserted"
        )
        if curves.exists()
        else None,
        subsets=tuple(
            _load_figure(path, f"Dice and AUC by the modalities given, {path.stem}", wide=True)
            for path in sorted(folders.ablations.glob("*.png"))
        ),
    )


def _load_figure(path: Path, text: str, *, wide: bool = False) -> Figure:
    return Figure(data_uri(path, _WIDE if wide else _HALF), text, wide)
