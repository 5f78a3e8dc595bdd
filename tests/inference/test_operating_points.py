from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.fixtures.small_model import PREPROCESSING

from slicewise.config.schema.evaluation import InferenceSettings
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import write_json
from slicewise.domain.keys import CaseKey
from slicewise.domain.labels import TASKS, Task
from slicewise.imaging.orientation import Orientation
from slicewise.imaging.slicing import SlicedCase, extract_slices
from slicewise.imaging.volume import Volume
from slicewise.inference.calibration import Scaling
from slicewise.inference.operating_points import (
    OperatingConditions,
    OperatingPoint,
    OperatingPoints,
    find_operating_points,
)
from slicewise.inference.postprocess import Postprocessing
from slicewise.inference.prediction import Prediction

CONFIGURED = Postprocessing(Scaling(), 0.5, 0.5)
CHOSEN = Postprocessing(Scaling(2.0, -0.5), 0.3, 0.6, 20, component_share=1.0, gate=True)


def write(path: Path, **changes: Any) -> Path:
    choice = {"decision": CHOSEN.to_json(), "validation": {"num_patients": 9}, "notes": []}
    content = {
        "made_for": OperatingConditions(
            "abc", InferenceSettings(mask_smoothing=0.5), "brats", "kaggle"
        ).to_json(),
        "sources": {"brats": choice},
        **changes,
    }
    write_json(path / "calibration.json", content)
    return path / "calibration.json"


def select(path: Path, **overrides: Any) -> OperatingPoints:
    return find_operating_points(path.with_name("best_model.pth"), "abc", CONFIGURED, overrides)


def test_what_was_chosen_holds_for_its_network_and_its_kind(tmp_path: Path) -> None:
    points = select(write(tmp_path))
    assert points.volume.postprocessing == CHOSEN
    assert points.volume.calibrated
    assert points.volume.origin == "chosen on 9 validation patients of brats"
    assert points.picture.postprocessing == CONFIGURED
    assert "kaggle had no validation cases" in points.picture.origin
    assert points.inference == InferenceSettings(flips=False, mask_smoothing=0.5)


def test_pictures_were_chosen_on_families(tmp_path: Path) -> None:
    choice = {"decision": CHOSEN.to_json(), "validation": {"num_patients": 16}, "notes": []}
    points = select(write(tmp_path, sources={"kaggle": choice}))
    assert points.picture.origin == "chosen on 16 families of validation pictures of kaggle"


@pytest.mark.parametrize(
    ("weights", "overrides", "words"),
    [
        ("other", {}, "another model"),
        (
            "abc",
            {"flips": True},
            "evaluation.flips=False evaluation.rotation=0.0 evaluation.mask_smoothing=0.5",
        ),
        ("abc", {"flips": False, "mask_smoothing": 1.0}, "evaluation.mask_smoothing=0.5"),
    ],
)
def test_for_another_network_or_another_way_of_asking_nothing_was_chosen(
    tmp_path: Path, weights: str, overrides: dict[str, Any], words: str
) -> None:
    points = find_operating_points(write(tmp_path).with_name("m.pth"), weights, CONFIGURED, overrides)
    for point in (points.volume, points.picture):
        assert (point.postprocessing, point.calibrated) == (CONFIGURED, False)
        assert words in point.origin
    assert points.inference is None


def test_what_was_wished_as_it_was_chosen_for_changes_nothing(tmp_path: Path) -> None:
    points = select(write(tmp_path), mask_smoothing=0.5)
    assert points.volume.postprocessing == CHOSEN


def test_without_an_evaluation_nothing_was_chosen(tmp_path: Path) -> None:
    points = select(tmp_path / "none.json")
    assert points.picture.postprocessing == CONFIGURED
    assert "was not evaluated" in points.picture.origin
    assert points.picture.origin.endswith("probabilities are raw, not calibrated")


def test_notes_of_the_choice_are_passed_on(tmp_path: Path) -> None:
    choice = {"decision": CONFIGURED.to_json(), "validation": {"num_patients": 2}, "notes": ["too few"]}
    points = select(write(tmp_path, sources={"brats": choice}))
    assert (points.volume.origin, points.volume.calibrated) == (
        "brats, 2 validation patients: too few; probabilities are raw, not calibrated",
        False,
    )


@pytest.mark.parametrize(
    "content", [{}, {"made_for": {"checkpoint": "abc", "asking": {"flips": True, "slice_smoothing": 1.0}}}]
)
def test_an_older_evaluation_is_no_fault(tmp_path: Path, content: dict[str, Any]) -> None:
    write_json(tmp_path / "calibration.json", {"sources": {}, **content})
    assert "older version" in select(tmp_path / "calibration.json").volume.origin


@pytest.mark.parametrize(
    "broken",
    [
        {"sources": {"brats": {"decision": {}}}},
        {"sources": []},
        {"made_for": {"weights": "abc"}},
        {"made_for": None},
        *(
            {"sources": {"brats": {"decision": {**CHOSEN.to_json(), **bad}, "validation": {"num_patients": 9},
                                   "notes": []}}}
            for bad in ({"class_threshold": 7}, {"temperature": 0}, {"shift": -1e9}, {"mask_threshold": "x"},
                        {"min_component": -1}, {"unknown": 1})
        ),
    ],
)  # fmt: skip
def test_a_damaged_choice_is_named(tmp_path: Path, broken: dict[str, Any]) -> None:
    path = write(tmp_path, **broken)
    with pytest.raises(WorkspaceError, match=r"calibration\.json is damaged"):
        select(path)


@pytest.fixture
def volume() -> Volume:
    rows, columns = np.mgrid[:90, :80]
    inside = np.hypot((rows - 45) / 35, (columns - 40) / 28) < 1
    images = np.zeros((4, 6, 90, 80), np.float32)
    images[3] = inside * np.random.default_rng(0).uniform(50, 200, (6, 90, 80))
    affine = ((-2.0, 0.0, 0.0, 0.0), (0.0, -2.0, 0.0, 0.0), (0.0, 0.0, 5.0, 0.0), (0.0, 0.0, 0.0, 1.0))
    presence = (False, False, False, True)
    key, orientation = CaseKey("a", "b", "c"), Orientation(affine, (80, 90, 6), b"")
    return Volume(key, images, presence, None, None, (5.0, 2.0, 2.0), orientation)


@pytest.fixture
def sliced(volume: Volume) -> SlicedCase:
    return extract_slices(volume, PREPROCESSING)


@pytest.fixture
def probability(sliced: SlicedCase) -> NDArray[np.float32]:
    """A tumour through slices 1 to 3, and a speck of two pixels in slice 5."""
    found = np.zeros((6, 64, 64), np.float32)
    found[1:4, 20:34, 20:34] = 0.9
    found[5, 40, 40:42] = 0.9
    found[~np.any(sliced.images != 0, axis=1)] = 0
    return found


CLASSES = np.array([0.1, 0.8, 0.9, 0.7, 0.2, 0.4], np.float32)


def decided(
    volume: Volume,
    sliced: SlicedCase,
    probability: NDArray[np.float32],
    how: Postprocessing,
    tasks: tuple[Task, ...] = TASKS,
) -> Any:
    return Prediction(
        slices=sliced,
        mask_probability=probability[:, None],
        class_probability=CLASSES,
        kind="volume",
        point=OperatingPoint(how, "the test"),
        tasks=tasks,
        spacing=volume.spacing,
        orientation=volume.orientation,
    )


def test_configured_thresholds_alone_threshold(
    volume: Volume, sliced: SlicedCase, probability: NDArray[np.float32]
) -> None:
    found = decided(volume, sliced, probability, CONFIGURED)
    np.testing.assert_array_equal(found.slice_mask, probability >= 0.5)
    assert found.mask.shape == volume.shape
    assert found.mask.any(axis=(1, 2)).tolist() == [False, True, True, True, False, True]
    assert found.tumour_probability == pytest.approx(0.8)
    assert found.volume_ml == pytest.approx(found.mask.sum() * 20 / 1000)


def test_the_scaling_moves_the_probability_and_the_verdict(
    volume: Volume, sliced: SlicedCase, probability: NDArray[np.float32]
) -> None:
    hot = replace(CONFIGURED, scaling=Scaling(3.0), class_threshold=0.7)
    found = decided(volume, sliced, probability, hot)
    assert 0.5 < found.tumour_probability < 0.7
    assert found.verdict == "no_tumour"
    assert decided(volume, sliced, probability, CONFIGURED).verdict == "tumour"


def test_parts_are_removed_on_the_way_and_the_rest_keeps_its_outline(
    volume: Volume, sliced: SlicedCase, probability: NDArray[np.float32]
) -> None:
    plain = decided(volume, sliced, probability, CONFIGURED)
    for how in (replace(CONFIGURED, min_component=20), replace(CONFIGURED, component_share=1.0)):
        found = decided(volume, sliced, probability, how)
        assert not found.mask[5].any()
        np.testing.assert_array_equal(found.mask[:5], plain.mask[:5])


def test_a_gate_empties_the_slices_that_are_not_called(
    volume: Volume, sliced: SlicedCase, probability: NDArray[np.float32]
) -> None:
    found = decided(volume, sliced, probability, replace(CONFIGURED, class_threshold=0.75, gate=True))
    assert found.mask.any(axis=(1, 2)).tolist() == [False, True, True, False, False, False]


def test_a_picture_has_no_millilitres(
    volume: Volume, sliced: SlicedCase, probability: NDArray[np.float32]
) -> None:
    assert decided(replace(volume, orientation=None), sliced, probability, CONFIGURED).volume_ml is None


def test_nothing_is_said_of_an_absent_task(
    volume: Volume, sliced: SlicedCase, probability: NDArray[np.float32]
) -> None:
    found = decided(volume, sliced, probability, CONFIGURED, ("segmentation",))
    assert (found.verdict, found.tumour_probability, found.probabilities) == (None, None, None)
    assert found.mask.any()
    assert found.volume_ml > 0
    found = decided(volume, sliced, probability, CONFIGURED, ("classification",))
    assert found.verdict == "tumour"
    assert (found.mask, found.slice_mask, found.volume_ml) == (None, None, None)
    assert decided(volume, sliced, probability, CONFIGURED).note is None
