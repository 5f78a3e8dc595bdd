from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from tests.fixtures.small_model import TASKS
from tests.training.conftest import Case, MakeConfig, make_case

from slicewise.config.schema.model import TaskName
from slicewise.data.loading.dataset import SliceDataset
from slicewise.models.checkpoint import Checkpoint
from slicewise.tasks.base import Contributions, Floats
from slicewise.tasks.build import make_tasks
from slicewise.training.model_selection import (
    Validation,
    is_significantly_worse,
    may_keep_initial_weights,
    stop_reason,
    tabulate_slices,
    update_best,
)
from slicewise.training.state import Progress


def dataset(volumes: Sequence[int], pictures: Sequence[int]) -> SliceDataset:
    return SliceDataset(
        {
            "volumes": [make_case(number, 6) for number in volumes],
            "pictures": [make_case(number, 1, [3], has_mask=False) for number in pictures],
        }
    )


def scores(data: SliceDataset, seed: int = 0) -> dict[TaskName, Floats]:
    """Predictions that depend on the slice alone, whatever data set it is in."""
    rows = []
    for case in data.cases:
        rng = np.random.default_rng([seed, int(case.key.patient[1:])])
        sizes = rng.uniform(1, 50, (len(case.labels), 2))
        logits = rng.normal(np.asarray(case.labels, float), 1.0)
        rows += [*np.column_stack([sizes.min(1), sizes, logits])]
    table = np.array(rows)
    return {"segmentation": table[:, :3], "classification": table[:, 3:]}


def metrics(data: SliceDataset) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, task in make_tasks(TASKS).items():
        found |= task.metrics(tabulate_slices(data), scores(data)[name])
    return found


def pseudovalues(data: SliceDataset, *monitors: str) -> Contributions:
    found: Contributions = {}
    for name, task in make_tasks(TASKS).items():
        found |= task.contributions(tabulate_slices(data), scores(data)[name], monitors)
    return found


def auc(data: SliceDataset, source: str) -> float:
    return metrics(data)[f"auc_{source}"]


def without(numbers: Sequence[int], out: int) -> list[int]:
    return [number for number in numbers if number != out]


VOLUMES, PICTURES = [0, 1, 2, 4], [50, 51, 52, 53, 55]


def test_the_values_of_dice_are_those_of_the_patients() -> None:
    data = dataset(VOLUMES, PICTURES)
    values = pseudovalues(data, "dice")
    alone = [dataset([number], []) for number in VOLUMES]

    assert [*values] == ["dice"]
    assert values["dice"] == pytest.approx([metrics(one)["dice"] for one in alone])


def test_the_values_of_an_auc_are_the_pseudo_values_of_each_source() -> None:
    data = dataset(VOLUMES, PICTURES)
    values = pseudovalues(data, "dice", "auc")
    fewer_volumes = [dataset(without(VOLUMES, out), PICTURES) for out in VOLUMES]
    fewer_pictures = [dataset(VOLUMES, without(PICTURES, out)) for out in PICTURES]

    assert [*values] == ["dice", "auc_volumes", "auc_pictures"]
    expected = [4 * auc(data, "volumes") - 3 * auc(fewer, "volumes") for fewer in fewer_volumes]
    assert values["auc_volumes"] == pytest.approx(expected)
    expected = [5 * auc(data, "pictures") - 4 * auc(fewer, "pictures") for fewer in fewer_pictures]
    assert values["auc_pictures"] == pytest.approx(expected)


@pytest.mark.parametrize("monitors", [["dice"], ["auc"], ["dice", "auc"]])
def test_a_figure_that_is_undefined_has_no_values(monitors: list[str]) -> None:
    one_class = dataset([], [50, 52, 54])  # all of them healthy
    assert pseudovalues(one_class, *monitors) == {}


def test_an_auc_that_hangs_on_one_patient_counts_as_chance_without_it() -> None:
    data = dataset([], [50, 52, 53])
    whole = auc(data, "pictures")
    found = pseudovalues(data, "auc")["auc_pictures"]
    assert found[2] == pytest.approx(3 * whole - 2 * 0.5)


@dataclass
class Copy(Case):
    """A picture that the split keeps together with another one."""

    family: str = ""

    @property
    def group(self) -> str:
        return self.family


def test_a_family_of_pictures_is_one_unit() -> None:
    pictures = [make_case(number, 1, [3], has_mask=False) for number in (50, 51, 52, 53)]
    family: list[Any] = [
        Copy(**vars(picture), family=name) for picture, name in zip(pictures, "abba", strict=True)
    ]
    data = SliceDataset({"volumes": [make_case(0, 6)], "pictures": family})
    values = pseudovalues(data, "auc")["auc_pictures"]
    parts = [
        SliceDataset({"volumes": [make_case(0, 6)], "pictures": pair}) for pair in (family[1:3], family[::3])
    ]
    assert values == pytest.approx([2 * auc(data, "pictures") - auc(part, "pictures") for part in parts])


def test_two_cases_of_one_patient_are_one_unit() -> None:
    data = dataset([0, 1, 2], [])
    data.cases[1].key = data.cases[0].key  # type: ignore[misc]  # a stand-in of the tests
    found = pseudovalues(data, "dice", "auc")
    assert [len(row) for row in found.values()] == [2, 2]


def worse(*gains: float) -> bool:
    return is_significantly_worse({"dice": [0.5 + gain for gain in gains]}, {"dice": [0.5] * len(gains)})


def test_with_many_patients_it_is_the_paired_t_test() -> None:
    """SciPy is the reference; the prior is worth four degrees of freedom, which 400 patients outweigh."""
    from scipy.stats import ttest_1samp

    rng = np.random.default_rng(0)
    decided = []
    for shift in np.linspace(-0.008, 0.002, 60):
        gains = rng.normal(shift, 0.03, 400)
        p_value = float(ttest_1samp(gains, 0, alternative="less").pvalue)
        if abs(p_value - 0.05) > 0.01:
            decided.append((worse(*gains), p_value < 0.05))
    assert all(found == expected for found, expected in decided)
    assert {found for found, _ in decided} == {True, False}


def test_a_single_patient_counts_by_the_prior() -> None:
    """One-sided t of four degrees of freedom: 2.13 times 0.03."""
    assert worse(-0.065)
    assert not worse(-0.063)
    assert not worse(0.3)


def test_equal_differences_by_luck_are_not_taken_for_certainty() -> None:
    assert not worse(-0.001, -0.001)
    assert worse(-0.04, -0.04, -0.04, -0.04)


def test_two_patients_who_lose_much_are_enough() -> None:
    """Student's t of one degree of freedom would need 6.3 standard errors, and find nothing."""
    assert worse(-0.3, -0.1)


def test_a_gain_in_one_figure_buys_no_loss_in_another() -> None:
    best = {"dice": [0.7, 0.8], "auc_pictures": [0.9, 0.9, 0.9]}
    assert not is_significantly_worse({"dice": [0.9, 0.9], "auc_pictures": [0.89, 0.9, 0.9]}, best)
    assert is_significantly_worse({"dice": [0.9, 0.9], "auc_pictures": [0.6, 0.6, 0.6]}, best)
    assert not is_significantly_worse(best, {})


@pytest.mark.parametrize(("num_patients", "spread"), [(1, 0.03), (2, 0.03), (4, 0.03), (4, 0.06), (30, 0.1)])
def test_luck_is_taken_for_a_loss_in_few_of_a_hundred(num_patients: int, spread: float) -> None:
    rng = np.random.default_rng(2)
    called = [worse(*rng.normal(0, spread, num_patients)) for _ in range(2000)]
    assert np.mean(called) < 0.12


@pytest.mark.parametrize(
    ("stage", "overrides", "trained", "expected"),
    [
        ("joint", [], ("segmentation", "classification"), True),
        ("joint", ["stages.joint.monitor=last"], ("segmentation", "classification"), False),
        ("joint", [], ("segmentation",), False),
        ("cls_head", [], ("segmentation",), False),  # its head is random
        ("cls_head", [], ("segmentation", "classification"), True),
        ("seg_warmup", [], ("segmentation",), True),  # of another run
    ],
)
def test_weights_that_learned_nothing_yet_are_no_rival(
    make_config: MakeConfig,
    checkpoint: Checkpoint,
    stage: str,
    overrides: list[str],
    trained: tuple[TaskName, ...],
    expected: bool,
) -> None:
    start = replace(checkpoint, tasks=TASKS.only(trained))
    assert may_keep_initial_weights(make_config(*overrides).stages[stage], start) == expected


@pytest.mark.parametrize(
    ("overrides", "trained"),
    [([], {"segmentation"}), (["stages.seg_warmup.objective.classification=1"], {"segmentation"})],
)
def test_a_frozen_head_is_not_trained(
    make_config: MakeConfig, overrides: list[str], trained: set[str]
) -> None:
    assert make_config(*overrides).stages["seg_warmup"].trained_tasks == trained


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (Progress(epoch=9), None),
        (Progress(epoch=10), "all epochs"),
        # Patience counts from the highest score.
        (Progress(epoch=7, top_epoch=4, best_epoch=6), "no higher score"),
        (Progress(epoch=6, top_epoch=4, best_epoch=6), None),
        # No epoch of the first half is as good as the start.
        (Progress(epoch=5, top_epoch=4, start_metrics={"dice": 0.5}), "worse than the initial weights"),
        (Progress(epoch=4, top_epoch=4, start_metrics={"dice": 0.5}), None),
    ],
)
def test_a_stage_stops_at_its_end_or_early(
    make_config: MakeConfig, progress: Progress, expected: str | None
) -> None:
    patience = 3 if progress.top_epoch else 0
    stage = make_config("stages.joint.epochs=10", f"stages.joint.patience={patience}").stages["joint"]
    assert stop_reason(progress, stage) == expected


@pytest.mark.parametrize(("min_delta", "top_epoch"), [(0.0, 3), (0.05, 2), (0.2, 1)])
def test_a_rise_below_min_delta_does_not_count(
    make_config: MakeConfig, min_delta: float, top_epoch: int
) -> None:
    stage = make_config(f"stages.seg_warmup.min_delta={min_delta}").stages["seg_warmup"]
    progress = Progress()
    for epoch, score in enumerate((0.5, 0.6, 0.62), 1):
        progress.epoch = epoch
        update_best(progress, Validation({"dice": score}, {}), stage)
    assert (progress.top_epoch, progress.best_epoch) == (top_epoch, 3)
