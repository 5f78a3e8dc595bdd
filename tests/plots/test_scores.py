from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from slicewise.domain.classes import Classes
from slicewise.domain.tables import by_source
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.summary import pooled_estimate
from slicewise.metrics.confusion import PixelCounts, count_overlap
from slicewise.metrics.table import METRICS
from slicewise.plots import classification
from slicewise.plots.classification import draw_confusion
from slicewise.plots.scores import draw_classes, draw_dice

pytestmark = pytest.mark.usefixtures("drawn_figures")

Results = Callable[..., EvaluationResult]


def draw_roc(path: Path, result: EvaluationResult, *, synthetic: bool, pooled: bool = False) -> None:
    bootstrap = result.bootstrap
    aucs = {
        source: pooled_estimate(METRICS["roc_auc"], rows, bootstrap)
        for source, rows in by_source(result.slices).items()
    }
    classification.draw_roc(path, result, aucs, synthetic=synthetic, pooled=pooled)


def ink(path: Path) -> float:
    """Share of pixels that are not white."""
    pixels = np.asarray(Image.open(path).convert("L"))
    assert pixels.shape[0] > 200
    return float((pixels < 250).mean())


@pytest.mark.parametrize(("patients", "pictures"), [(1, 0), (4, 12), (30, 1), (0, 4)])
def test_figures_are_drawn_for_few_and_many_patients(
    tmp_path: Path, results: Results, patients: int, pictures: int
) -> None:
    result = results(num_patients=patients, num_pictures=pictures)
    path = tmp_path / "below" / "figure.png"
    for draw in (draw_confusion, draw_dice, draw_roc):
        draw(path, result, synthetic=True)
        assert 0.003 < ink(path) < 0.9


@pytest.mark.parametrize(
    "classes",
    [
        Classes(("object",)),
        Classes(("a", "b")),
        Classes(("long_name_of_a_class", "enhancing_tumour", "c", "d"), exclusive=True),
    ],
    ids=["one", "overlapping", "exclusive"],
)
def test_every_kind_of_classes_of_pixels_is_drawn(tmp_path: Path, classes: Classes) -> None:
    masks = np.random.default_rng(0).random((2, len(classes), 16, 16)) < 0.4
    confused = classes.exclusive or not classes.several
    side = len(classes) + 1
    cells = np.arange(side * side).reshape(side, side) if confused else None
    counts = PixelCounts(count_overlap(*masks), cells)
    draw_classes(tmp_path / "classes.png", classes, {"one": counts, "two": counts}, synthetic=True)
    assert 0.02 < ink(tmp_path / "classes.png") < 0.9
    with Image.open(tmp_path / "classes.png") as figure:
        assert figure.width > (1200 if confused else 500)


def test_synthetic_data_are_named_in_the_figure(tmp_path: Path, results: Results) -> None:
    result = results(num_patients=2, num_pictures=2)
    draw_confusion(tmp_path / "real.png", result, synthetic=False)
    draw_confusion(tmp_path / "synthetic.png", result, synthetic=True)
    assert ink(tmp_path / "synthetic.png") > ink(tmp_path / "real.png")


@pytest.mark.parametrize("pooled", [False, True])
def test_only_one_network_has_an_operating_point_on_its_curve(
    tmp_path: Path, results: Results, monkeypatch: pytest.MonkeyPatch, pooled: bool
) -> None:
    """Folds have thresholds of their own, so the point of all their answers lies on no curve."""
    drawn: list[Figure] = []

    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    draw_roc(tmp_path / "roc.png", results(num_patients=4, num_pictures=12), synthetic=False, pooled=pooled)
    dots = [line for line in drawn[0].axes[0].lines if line.get_marker() == "o"]
    assert len(dots) == (0 if pooled else 2)
    legend = drawn[0].axes[0].get_legend()
    assert legend is not None
    assert legend.get_title().get_text() == ("" if pooled else "dot: operating point")


def test_no_temporary_file_stays(tmp_path: Path, results: Results) -> None:
    draw_roc(tmp_path / "roc.png", results(num_patients=2, num_pictures=2), synthetic=False)
    assert [path.name for path in tmp_path.iterdir()] == ["roc.png"]
