"""The pictures of the page, shrunk and embedded."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import Image

from slicewise.core.errors import WorkspaceError
from slicewise.reporting.run_info import ResultFolders

MAX_GRADCAM_PAGES: Final = 4
_WIDE, _HALF = 1400, 1000
_QUALITY: Final = 84
_SCORE_FIGURES: Final = {
    "confusion_matrix": "Confusion matrices of the slices, per source",
    "metric_distribution": "Dice and IoU of each test patient",
    "roc_curve": "ROC curves of the slices, with operating points",
    "reliability_diagram": "Reliability before and after calibration",
}
_MAX_HEIGHT: Final = 6000


@dataclass(frozen=True)
class Figure:
    """A picture embedded in the page; `text` is its caption and alternative text."""

    uri: str
    text: str
    wide: bool = False


@dataclass(frozen=True)
class Figures:
    """All pictures of the page; of the saliency maps only the first pages."""

    curves: tuple[Figure, ...]
    scores: tuple[Figure, ...]
    stage_comparison: Figure
    samples: Figure
    failures: tuple[Figure, ...]
    saliency: tuple[Figure, ...]
    num_saliency_pages: int
    """Number of pages in the workspace."""
    faithfulness: Figure | None
    """Deletion and insertion curves; None if no slice was labelled tumour."""
    subsets: tuple[Figure, ...]
    """Empty without a modality ablation."""


def read_figures(folders: ResultFolders) -> Figures:
    """Read and shrink the pictures.

    Raises:
        WorkspaceError: one is missing or damaged.
    """
    evaluation, failures = folders.evaluation, folders.failures
    pages = sorted(folders.gradcam.glob("page_*.png"))
    faithfulness = folders.gradcam / "deletion_insertion.png"
    return Figures(
        curves=tuple(
            _load_figure(folder / "curves.png", f"Losses and validation metrics of {name}", wide=True)
            for name, folder in folders.stages.items()
        ),
        scores=tuple(_load_figure(evaluation / f"{name}.png", text) for name, text in _SCORE_FIGURES.items()),
        stage_comparison=_load_figure(
            folders.stage_comparison / "phase_comparison.png", "The stages compared", wide=True
        ),
        samples=_load_figure(
            evaluation / "sample_predictions.png", "Masks of test patients, best to worst", wide=True
        ),
        failures=(
            _load_figure(failures / "failures.png", "Failures: image, reference, prediction", wide=True),
            _load_figure(failures / "iou_of_failures.png", "IoU of the failures"),
            _load_figure(
                failures / "confusion_matrices.png", "Confusion matrices of all slices and of the failures"
            ),
        ),
        saliency=tuple(
            _load_figure(
                path, f"Image, reference mask and saliency maps of each method, {path.stem}", wide=True
            )
            for path in pages[:MAX_GRADCAM_PAGES]
        ),
        num_saliency_pages=len(pages),
        faithfulness=_load_figure(
            faithfulness, "Tumour probability while the most salient regions are deleted or inserted"
        )
        if faithfulness.exists()
        else None,
        subsets=tuple(
            _load_figure(path, f"Dice and AUC per subset of modalities, {path.stem}", wide=True)
            for path in sorted(folders.ablations.glob("*.png"))
        ),
    )


def _load_figure(path: Path, text: str, *, wide: bool = False) -> Figure:
    return Figure(data_uri(path, _WIDE if wide else _HALF), text, wide)


def data_uri(path: Path, width: int) -> str:
    """Return a picture as `data:image/webp;base64,...`, at most `width` pixels wide.

    WebP takes a quarter of the bytes of PNG here; every browser since 2020 shows it.

    Raises:
        WorkspaceError: the file is missing or not a picture.
    """
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise WorkspaceError(f"{path} cannot be read ({error}); run again with --force evaluate") from error
    picture.thumbnail((width, _MAX_HEIGHT), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
