import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slicewise.config.schema import Evaluation
from slicewise.domain.tables import SliceRow, read_rows
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.explain.explanation import (
    RANDOM_SALIENCY,
    ExplanationRow,
    SliceExplanation,
    explanation_rows,
    summarise_methods,
)
from slicewise.explain.faithfulness import Curves
from slicewise.explain.report import PER_PAGE, CurveRow, write_gradcam, write_methods

pytestmark = pytest.mark.usefixtures("drawn_figures")

SIDE = 16
TUMOUR = np.zeros((SIDE, SIDE), bool)
TUMOUR[4:8, 4:8] = True
INSIDE = np.zeros((SIDE, SIDE), bool)
INSIDE[2:12, 2:12] = True
ON, OFF = TUMOUR.astype(np.float32), (INSIDE & ~TUMOUR).astype(np.float32)


def curves(answer: float) -> Curves:
    shares = np.linspace(0, 1, 5, dtype=np.float32)
    return Curves(shares, np.full(5, answer, np.float32), np.full(5, 1 - answer, np.float32))


def explained(row: SliceRow, *, alike: float = 0.0) -> SliceExplanation:
    """Grad-CAM is right and learnt, HiResCAM wrong and, with `alike`, not learnt."""
    reference = TUMOUR if row.reference_pixels is not None else None
    traced = (
        {"gradcam": curves(0.2), "hirescam": curves(0.6), RANDOM_SALIENCY: curves(0.5)}
        if row.predicted
        else {}
    )
    return SliceExplanation(
        row,
        np.full((SIDE, SIDE), 0.5, np.float32),
        INSIDE,
        reference,
        {"gradcam": ON, "hirescam": OFF},
        traced,
        {"gradcam": [0.6, 0.2, 0.1], "hirescam": [0.9, 0.9, alike]},
    )


def height(path: Path) -> int:
    with Image.open(path) as picture:
        return picture.height


def found_tumour(result: EvaluationResult) -> SliceRow:
    return next(row for row in result.slices if row.label and row.right and row.source == "lgg")


def test_each_method_is_judged_by_its_own_heat(result: EvaluationResult) -> None:
    good, bad, random = explanation_rows(explained(found_tumour(result)))
    assert (good.method, good.share_inside, good.hit) == ("gradcam", 1, True)
    assert (bad.method, bad.share_inside, bad.hit) == ("hirescam", 0, False)
    assert (random.method, random.share_inside, random.likeness_head) == (RANDOM_SALIENCY, None, None)
    assert good.deletion_auc is not None
    assert bad.deletion_auc is not None
    assert good.deletion_auc < bad.deletion_auc


def test_a_method_whose_heat_outlives_the_weights_is_called_insensitive(result: EvaluationResult) -> None:
    rows = explanation_rows(explained(found_tumour(result), alike=0.9))
    methods = summarise_methods(rows)
    assert methods["gradcam"]["sanity"]["verdict"] == "sensitive"
    assert methods["hirescam"]["sanity"]["verdict"] == "insensitive"
    assert "sanity" not in methods[RANDOM_SALIENCY]


def test_slices_that_were_not_called_tumour_have_heat_but_no_curves(result: EvaluationResult) -> None:
    row = next(row for row in result.slices if not row.predicted)
    assert [found.method for found in explanation_rows(explained(row))] == ["gradcam", "hirescam"]
    assert all(found.deletion_auc is None for found in explanation_rows(explained(row)))


def test_tables_curves_and_pages_are_written(tmp_path: Path, result: EvaluationResult) -> None:
    rows = result.slices[: PER_PAGE + 1]
    methods = write_methods(tmp_path, [explained(row) for row in rows], synthetic=True)
    assert {path.name for path in tmp_path.iterdir()} == {
        "explanations.csv", "explanations.json", "curves.csv", "deletion_insertion.png",
        "page_01.png", "page_02.png",
    }  # fmt: skip
    called = sum(row.predicted for row in rows)
    table = read_rows(tmp_path / "explanations.csv", ExplanationRow)
    assert len(table) == 2 * len(rows) + called
    assert len(read_rows(tmp_path / "curves.csv", CurveRow)) == 5 * 3 * called
    assert json.loads((tmp_path / "explanations.json").read_text())["methods"] == methods
    assert height(tmp_path / "page_01.png") > 2 * height(tmp_path / "page_02.png")


def columns(path: Path) -> float:
    with Image.open(path) as picture:
        return picture.width / picture.height


def test_methods_with_equal_maps_are_one_panel(tmp_path: Path, result: EvaluationResult) -> None:
    different = [explained(found_tumour(result))]
    equal = [replace(each, saliency_maps={"gradcam": ON, "hirescam": ON}) for each in different]
    for name, explanations in (("two", different), ("one", equal)):
        (tmp_path / name).mkdir()
        write_methods(tmp_path / name, explanations, synthetic=False)
    assert columns(tmp_path / "one" / "page_01.png") < columns(tmp_path / "two" / "page_01.png")


def test_a_slice_without_a_predicted_tumour_shows_no_map(tmp_path: Path, result: EvaluationResult) -> None:
    rows = [next(row for row in result.slices if bool(row.predicted) is called) for called in (False, True)]
    warm = []
    for row in rows:
        folder = tmp_path / str(row.predicted)
        folder.mkdir()
        write_gradcam(folder, [explained(row)], synthetic=False)
        (path,) = folder.glob("*.png")
        with Image.open(path) as picture:
            red, _, blue = np.moveaxis(np.asarray(picture.convert("RGB")).astype(int), -1, 0)
        warm.append(int(np.count_nonzero(red > blue + 60)))
    assert warm[0] == 0 < warm[1]


def test_without_pictures_there_are_tables_without_rows_and_no_figure(tmp_path: Path) -> None:
    assert write_methods(tmp_path, [], synthetic=False) == {}
    assert not list(tmp_path.glob("*.png"))


def test_explanations_are_checked(settings: Evaluation) -> None:
    for wrong in (["layercam"], ["gradcam", "gradcam"], ["gradcam", "tarot"], []):
        with pytest.raises(ValueError, match="explanations"):
            Evaluation(**{**settings.model_dump(), "explanations": wrong})
