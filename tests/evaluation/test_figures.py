from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.evaluation.figures import draw_confusion, draw_dice, draw_roc

Results = Callable[..., EvaluationResult]


def ink(path: Path) -> float:
    """Share of pixels that are not white."""
    pixels = np.asarray(Image.open(path).convert("L"))
    assert pixels.shape[0] > 200
    return float((pixels < 250).mean())


@pytest.mark.parametrize("draw", [draw_confusion, draw_dice, draw_roc])
@pytest.mark.parametrize(("patients", "pictures"), [(1, 0), (4, 12), (60, 1), (0, 4)])
def test_figures_are_drawn_for_few_and_many_patients(
    tmp_path: Path, results: Results, draw: Callable[..., Path], patients: int, pictures: int
) -> None:
    result = results(num_patients=patients, num_pictures=pictures)
    path = draw(tmp_path / "below" / "figure.png", result, synthetic=True)
    assert 0.003 < ink(path) < 0.9


def test_synthetic_data_are_named_in_the_figure(tmp_path: Path, results: Results) -> None:
    result = results(num_patients=2, num_pictures=2)
    plain = draw_confusion(tmp_path / "real.png", result, synthetic=False)
    marked = draw_confusion(tmp_path / "synthetic.png", result, synthetic=True)
    assert ink(marked) > ink(plain)


def test_no_temporary_file_stays(tmp_path: Path, results: Results) -> None:
    draw_roc(tmp_path / "roc.png", results(num_patients=2, num_pictures=2), synthetic=False)
    assert [path.name for path in tmp_path.iterdir()] == ["roc.png"]
