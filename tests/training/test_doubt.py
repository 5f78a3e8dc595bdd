from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.training.conftest import Case, make_case

from slicewise.config.schema.training import Monitor
from slicewise.data.batches import SliceDataset
from slicewise.training.doubt import is_clear, leave_one_out, standard_error
from slicewise.training.validation import SliceScores, dice_per_patient, monitored, slice_auc


def dataset(volumes: Sequence[int], pictures: Sequence[int]) -> SliceDataset:
    return SliceDataset(
        [make_case(number, 6) for number in volumes],
        [make_case(number, 1, [3], has_mask=False) for number in pictures],
    )


def scores(data: SliceDataset, seed: int = 0) -> SliceScores:
    """Answers that depend on the slice alone, whatever data set it is in."""
    rows = []
    for case in data.cases:
        rng = np.random.default_rng([seed, int(case.key.patient[1:])])
        sizes = rng.uniform(1, 50, (len(case.labels), 2))
        logits = rng.normal(np.asarray(case.labels, float), 1.0)
        rows += [*np.column_stack([sizes.min(1), sizes.sum(1), logits])]
    overlap, extent, logits = np.array(rows).T
    return SliceScores(overlap, extent, logits, np.zeros((len(data), 2)))


def figure(data: SliceDataset, monitor: Monitor) -> float:
    found = scores(data)
    metrics = {"dice": dice_per_patient(data, found), **slice_auc(data, found.class_logits)}
    return monitored(metrics, monitor)


@pytest.mark.parametrize("monitor", ["dice", "auc", "dice+auc"])
def test_each_patient_is_left_out_as_if_it_had_never_been_there(monitor: Monitor) -> None:
    volumes, pictures = [0, 1, 2, 4], [50, 51, 52, 53, 55]
    whole = dataset(volumes, pictures)
    table = leave_one_out(whole, scores(whole), monitor)
    by_volume = [figure(dataset([v for v in volumes if v != out], pictures), monitor) for out in volumes]
    by_picture = [figure(dataset(volumes, [p for p in pictures if p != out]), monitor) for out in pictures]

    assert table[0] == pytest.approx(by_volume)
    assert table[1] == pytest.approx(by_picture)


@dataclass
class Copy(Case):
    """A picture that the split keeps together with another one."""

    family: str = ""

    @property
    def group(self) -> str:
        return self.family


def test_a_family_of_pictures_is_left_out_as_one() -> None:
    pictures = [make_case(number, 1, [3], has_mask=False) for number in (50, 51, 52, 53)]
    family = [Copy(**vars(picture), family=name) for picture, name in zip(pictures, "abba", strict=True)]
    data = SliceDataset([make_case(0, 6)], family)
    table = leave_one_out(data, scores(data), "dice+auc")
    without_a, without_b = (SliceDataset([make_case(0, 6)], pair) for pair in (family[1:3], family[::3]))
    assert table[1] == pytest.approx([figure(without_a, "dice+auc"), figure(without_b, "dice+auc")])


def test_two_cases_of_one_patient_are_left_out_together() -> None:
    data = dataset([0, 1, 2], [])
    data.cases[1].key = data.cases[0].key  # type: ignore[misc]  # a stand-in of the tests
    assert [len(row) for row in leave_one_out(data, scores(data), "dice+auc")] == [2]


def test_the_error_of_a_mean_is_the_textbook_one() -> None:
    """The jackknife of a mean is its standard error; sources add up as independent ones do."""
    rng = np.random.default_rng(1)
    gains = [rng.normal(0.1, 0.3, size) for size in (5, 30)]

    def without(values: NDArray[np.float64]) -> list[float]:
        return [float(np.delete(values, place).mean()) for place in range(len(values))]

    start = [[0.5] * 5, [0.5] * 30]
    now = [list(np.add(0.5, without(values))) for values in gains]
    errors = [values.std(ddof=1) / np.sqrt(len(values)) for values in gains]
    assert standard_error(start, now) == pytest.approx(np.hypot(*errors))
    assert standard_error(start[:1], now[:1]) == pytest.approx(errors[0])


def test_a_gain_is_clear_from_the_t_of_its_patients_on() -> None:
    start, now = [[0.5] * 4], [[0.50, 0.51, 0.52, 0.53]]
    error = standard_error(start, now)
    assert error == pytest.approx(np.sqrt(3 / 4 * 0.0005))
    assert is_clear(2.36 * error, start, now)
    assert not is_clear(2.35 * error, start, now)
    assert is_clear(3.75 * error, start, now, looks=3)
    assert not is_clear(3.73 * error, start, now, looks=3), "any of three may be the lucky one"


def test_the_source_with_the_fewest_patients_who_differ_says_how_sure_one_is() -> None:
    rng = np.random.default_rng(3)
    start, now = [[0.5] * 4, [0.5] * 300], [[0.50, 0.51, 0.52, 0.53], [*rng.normal(0.5, 1e-6, 300)]]
    error = standard_error(start, now)
    assert is_clear(2.36 * error, start, now)
    assert not is_clear(2.35 * error, start, now)
    idle = [[0.5, 0.5]]
    assert is_clear(2.36 * error, start + idle, now + idle), "pictures cannot move a Dice"


def test_where_one_patient_shows_no_spread_any_gain_will_do() -> None:
    assert is_clear(1e-6, [[0.5]], [[0.9]])
    assert not is_clear(0.0, [[0.5]], [[0.1]])
    start, now = [[0.5], [0.5, 0.5]], [[0.9], [0.5, 0.7]]
    assert not is_clear(0.1, start, now)


@pytest.mark.parametrize("true_gain", [0.0, 0.05])
def test_luck_is_taken_for_a_gain_in_one_of_twenty(true_gain: float) -> None:
    rng = np.random.default_rng(2)
    start = [[0.5] * 6]
    called = 0
    for _ in range(2000):
        gains = rng.normal(true_gain, 0.05, 6)
        now = [[0.5 + float(np.delete(gains, place).mean()) for place in range(6)]]
        called += is_clear(float(gains.mean()), start, now)
    assert called / 2000 == pytest.approx(0.05 if true_gain == 0 else 0.65, abs=0.06 if true_gain else 0.015)
