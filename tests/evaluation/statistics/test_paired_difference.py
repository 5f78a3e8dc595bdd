import numpy as np
import pytest
from scipy import stats

from slicewise.evaluation.statistics import BootstrapSettings, paired_difference

HOW = BootstrapSettings(samples=400, confidence=0.95, seed=1)


def patients(number: int) -> list[tuple[str, str]]:
    return [("lgg", f"P{place:02d}") for place in range(number)]


def test_a_constant_gain_over_varied_patients_is_certain() -> None:
    """The patients differ by far more than the gain; pairing takes their spread out."""
    before = np.random.default_rng(0).random(12)
    found = paired_difference((before + 0.01).tolist(), before.tolist(), patients(12), HOW)
    assert found.estimate.value == pytest.approx(0.01)
    assert found.estimate.low == pytest.approx(0.01)
    assert found.p_value == pytest.approx(2 / 2**12)


def test_the_test_is_that_of_the_textbook() -> None:
    rng = np.random.default_rng(1)
    one, two = rng.random(15), rng.random(15)
    found = paired_difference(one.tolist(), two.tolist(), patients(15), HOW)
    ranks = stats.rankdata(np.abs(one - two))
    above = ranks[one > two].sum()
    smaller = min(above, ranks.sum() - above)
    sums = np.array([0])
    for rank in range(1, 16):
        sums = np.concatenate([sums, sums + rank])  # every way to give the ranks a sign
    assert found.p_value == pytest.approx(min(1, 2 * np.mean(sums <= smaller)))


def test_few_pairs_or_no_change_give_no_test() -> None:
    assert paired_difference([1.0] * 5, [0.0] * 5, patients(5), HOW).p_value is None
    same = paired_difference([0.5] * 9, [0.5] * 9, patients(9), HOW)
    assert (same.estimate.value, same.estimate.low, same.p_value) == (0, 0, None)
    assert paired_difference([], [], [], HOW).estimate.value is None


def test_rows_of_one_group_are_one_pair() -> None:
    groups = [("pictures", str(place // 2)) for place in range(12)]
    ours = np.random.default_rng(2).random(12)
    found = paired_difference(ours.tolist(), [0.0] * 12, groups, HOW)
    assert found.estimate.num_patients == 6
    assert found.p_value == pytest.approx(2 / 2**6)


def test_rows_that_are_no_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        paired_difference([1.0], [1.0, 2.0], patients(2), HOW)
