"""Choosing on validation patients against leaving the defaults, on generated scores, many times."""

from types import ModuleType

import numpy as np
import pytest
from tests.scripts import load_script

from slicewise.config.schema import Evaluation
from slicewise.domain.tables import Estimate
from slicewise.evaluation.mask_threshold import select_candidate
from slicewise.evaluation.slice_probabilities import SliceProbabilities
from slicewise.evaluation.statistics import BootstrapSettings, SelectionGain, held_out_values
from slicewise.evaluation.threshold_selection import select_class_threshold
from slicewise.inference.postprocess import Postprocessing

HOW = BootstrapSettings(400, 0.95, 0)
DRAWS = 40


@pytest.fixture(scope="module")
def study() -> ModuleType:
    return load_script("resplit_choices")


@pytest.fixture
def usual(settings: Evaluation) -> Evaluation:
    return settings.model_copy(update={"min_choice_patients": 8, "bootstrap_samples": 400})


def test_every_row_is_valued_without_its_group() -> None:
    owner = np.repeat(np.arange(12), 3)
    strata = np.arange(12) % 2

    def choose(rows: np.ndarray) -> np.ndarray:
        assert rows.any()
        inside = np.unique(owner[rows])
        assert not np.isin(inside, owner[~rows]).any()
        assert set(strata[inside]) == {0, 1}
        return np.where(rows, np.nan, 7.0)

    assert held_out_values(owner, strata, choose).tolist() == [7.0] * 36


def test_a_gain_is_significant_where_its_whole_interval_lies_above_zero() -> None:
    for low, high, expected in ((0.01, 0.2, True), (-0.01, 0.2, False), (0.0, 0.2, False)):
        assert SelectionGain("Dice", Estimate(0.1, low, high, 9), 0.95).is_significant is expected
    assert not SelectionGain("Dice", Estimate(0.1, None, None, 3, "no interval"), 0.95).is_significant
    words = SelectionGain("Dice", Estimate(0.1, -0.01, 0.2, 9), 0.95).describe()
    assert words == "Dice +0.100, 95 % interval -0.010 to +0.200"


@pytest.mark.parametrize(
    ("name", "size"), [("calibrated", 16), ("calibrated, weak", 38), ("calibrated, 85 % tumour", 24)]
)
def test_choosing_where_the_defaults_are_right_costs_nothing(
    study: ModuleType, usual: Evaluation, name: str, size: int
) -> None:
    """On average no threshold is worse than the default, and 9 of 10 draws lose at most 0.02 in any measure.

    Where probabilities are exactly right every calibration is a loss; on average it is below 0.005.
    """
    found = study.resample(size, True, draws=DRAWS, settings=usual, scores=study.GENERATED[name])
    anyway = study.resample(size, False, draws=DRAWS, settings=usual, scores=study.GENERATED[name])
    for measure, draws in found.items():
        assert np.mean(draws.gains >= -0.02) >= 0.9, measure
        assert draws.gains.mean() >= -0.005, measure
    assert found["balanced accuracy"].gains.mean() >= -0.001
    assert anyway["accuracy"].gains.mean() < found["accuracy"].gains.mean()
    assert anyway["log-likelihood"].gains.mean() < found["log-likelihood"].gains.mean()


def test_a_clear_gain_is_taken(study: ModuleType, usual: Evaluation) -> None:
    """Logits shifted by -3: nearly every second tumour is missed at 0.5."""
    found = study.resample(38, True, draws=DRAWS, settings=usual, scores=study.GENERATED["shifted by -3"])
    assert found["balanced accuracy"].adopted >= 0.5
    assert found["log-likelihood"].adopted >= 0.85
    assert found["balanced accuracy"].gains.mean() > 0.06
    assert found["balanced accuracy"].gains.min() >= 0
    assert found["ECE"].gains.mean() > 0.15


def test_a_calibration_changes_no_call(study: ModuleType, usual: Evaluation) -> None:
    fixed = usual.model_copy(update={"operating_point": "fixed"})
    slices = study.generate(np.random.default_rng(0), 80, shift=-3.0)
    postprocessing = select_class_threshold(
        Postprocessing.configured(fixed), slices, fixed, HOW
    ).postprocessing
    assert postprocessing.calibrated
    called = postprocessing.call(postprocessing.probabilities(slices.probabilities))
    assert called.tolist() == Postprocessing.configured(fixed).call(slices.probabilities).tolist()


def test_a_threshold_that_costs_accuracy_is_left(study: ModuleType, usual: Evaluation) -> None:
    """With 85 % tumour balanced accuracy surely gains in 400 families, and accuracy surely loses."""
    slices = study.generate(np.random.default_rng(1), 400, share=0.85)
    found = select_class_threshold(Postprocessing.configured(usual), slices, usual, HOW)
    assert found.gains["class threshold"].is_significant
    assert usual.class_threshold is not None
    assert found.postprocessing.scaling(usual.class_threshold) == found.postprocessing.class_threshold
    assert any("costs accuracy" in note for note in found.notes)


def test_a_class_of_three_groups_chooses_nothing(study: ModuleType, usual: Evaluation) -> None:
    slices = study.generate(np.random.default_rng(2), 20, shift=-3.0)
    well = [group for group, ill in zip(slices.groups, slices.labels, strict=True) if not ill]
    rows = np.array([group not in sorted(set(well))[3:] for group in slices.groups])
    few = SliceProbabilities(
        slices.labels[rows], slices.probabilities[rows], tuple(np.asarray(slices.groups)[rows]), True
    )
    found = select_class_threshold(Postprocessing.configured(usual), few, usual, HOW)
    assert found.postprocessing == Postprocessing.configured(usual)
    assert "3 a slice without: fewer than 4 of one class" in found.notes[0]


def test_one_probability_for_all_chooses_nothing_and_says_nothing(usual: Evaluation) -> None:
    labels = np.asarray(np.arange(20) % 2, np.float64)
    slices = SliceProbabilities(labels, np.full(20, 0.5), tuple(map(str, range(20))), True)
    found = select_class_threshold(Postprocessing.configured(usual), slices, usual, HOW)
    assert (found.postprocessing, found.notes) == (Postprocessing.configured(usual), ())


def test_a_sensitivity_target_is_a_demand_and_says_what_it_reaches(
    study: ModuleType, usual: Evaluation
) -> None:
    wanted = usual.model_copy(update={"operating_point": "sensitivity", "sensitivity_target": 0.95})
    slices = study.generate(np.random.default_rng(3), 60, shift=-1.5)
    found = select_class_threshold(Postprocessing.configured(wanted), slices, wanted, HOW)
    called = found.postprocessing.call(found.postprocessing.probabilities(slices.probabilities))
    assert called[slices.labels == 1].mean() >= 0.95
    assert any(note.startswith("sensitivity 0.9") and "target 0.95" in note for note in found.notes)


@pytest.mark.parametrize("num_patients", [8, 16])
def test_masks_of_chance_stay_as_configured_and_clear_gains_are_taken(num_patients: int) -> None:
    rng, groups = np.random.default_rng(num_patients), [str(one) for one in range(num_patients)]
    lucky, taken = 0, 0
    for _ in range(DRAWS):
        patients = rng.uniform(0.3, 0.95, num_patients)
        dice = patients + 0.05 * rng.normal(size=(40, num_patients))
        lucky += select_candidate(dice, groups, HOW)[0] != 0
        dice[17] += 0.15
        taken += select_candidate(dice, groups, HOW)[0] == 17
    assert lucky <= 0.1 * DRAWS
    assert taken >= 0.9 * DRAWS
