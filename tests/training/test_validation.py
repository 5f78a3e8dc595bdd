from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from tests.fixtures.small_model import TASKS
from torch import Tensor, nn

from slicewise.config.schema import Config, Model
from slicewise.data.loading.dataset import SliceDataset
from slicewise.domain.keys import CaseKey
from slicewise.models.multitask import MultitaskModel
from slicewise.training.learner import make_fabric
from slicewise.training.model_selection import is_score_defined, monitor_score, validate

MakeConfig = Callable[..., Config]


class Made:
    """Four slices of 4 x 4 pixels whose FLAIR is 1 where the network should see tumour."""

    image_size = 4
    presence = (False, False, False, True)

    def __init__(self, patient: str, seen: list[int], true: list[int], has_mask: bool = True) -> None:
        self.key = CaseKey("made" if has_mask else "pictures", patient, patient)
        self.group = patient
        self.stored_images = np.zeros((len(seen), 1, 4, 4), np.float16)
        self.masks = np.zeros((len(seen), 4, 4), np.uint8)
        for row, (num_seen, num_true) in enumerate(zip(seen, true, strict=True)):
            self.stored_images[row, 0].flat[:num_seen] = 1
            self.masks[row].flat[:num_true] = 1
        self.labels = (np.array(true) > 0).astype(np.int8)
        self.included = self.train = np.ones(len(seen), bool)
        self.has_mask = has_mask
        if not has_mask:
            self.masks[:] = 0


class Echo(MultitaskModel):
    """Calls a pixel tumour where FLAIR is 1, and a slice the more likely tumour, the more such pixels."""

    def __init__(self, settings: Model) -> None:
        super().__init__(settings, TASKS)
        self.mask_head = Map(lambda flair: 10 * (flair - 0.5))
        self.class_head = Map(lambda flair: flair.sum((2, 3)) - 2)  # type: ignore[assignment]  # a stand-in

    def encode(self, images: Tensor, presence: Tensor) -> list[Tensor]:
        return [images[:, 3:]]

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        return features[0]


class Map(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, decoded: Tensor) -> Tensor:
        return self.function(decoded)


@pytest.fixture
def score(make_config: MakeConfig) -> Callable[..., dict[str, float]]:
    config = make_config("training.batch_size=2", "training.precision=fp32")
    model = Echo(config.model)

    def run(*cases: Any, stage: str = "joint") -> dict[str, float]:
        kinds = {"volumes": True, "pictures": False}
        dataset = SliceDataset({key: [c for c in cases if c.has_mask == kind] for key, kind in kinds.items()})
        fabric = make_fabric(config.runtime, "fp32")
        return validate(fabric, model, dataset, config.stages[stage], config.training).metrics

    return run


def test_dice_is_pooled_over_a_patient_and_averaged_over_patients(
    score: Callable[..., dict[str, float]],
) -> None:
    metrics = score(Made("A", [4, 0, 2], [2, 2, 2]), Made("B", [3], [3]))

    assert metrics["dice"] == pytest.approx(((2 * 4 / 12) + 1) / 2)


def test_two_cases_of_one_patient_count_as_one(score: Callable[..., dict[str, float]]) -> None:
    second = Made("A", [0], [6])
    second.key = CaseKey("made", "A", "A-second-visit")

    assert score(Made("A", [6], [6]), second)["dice"] == pytest.approx(2 * 6 / 18)


def test_both_empty_is_one_and_a_false_alarm_is_zero(score: Callable[..., dict[str, float]]) -> None:
    assert score(Made("A", [0, 0], [0, 0]))["dice"] == 1
    assert score(Made("A", [3, 0], [0, 0]))["dice"] == 0


def test_slices_that_nobody_asks_about_get_no_mask_and_no_rank(
    score: Callable[..., dict[str, float]],
) -> None:
    """As in the evaluation: what serving does not look at stays empty, and its tumour is missed."""
    case = Made("a", seen=[4, 4, 8, 1], true=[4, 4, 0, 0])
    assert score(case)["dice"] == pytest.approx(16 / 25)
    case.included = np.array([True, False, False, True])
    found = score(case)

    assert found["dice"] == pytest.approx(8 / 13)
    assert found["auc"] == 1


def test_nothing_is_found_outside_the_brain(make_config: MakeConfig) -> None:
    config = make_config("training.precision=fp32")
    model = Echo(config.model)
    model.mask_head = Map(lambda flair: torch.ones_like(flair))
    case: Any = Made("a", seen=[4, 4], true=[4, 4])
    dataset = SliceDataset({"volumes": [case]})
    fabric = make_fabric(config.runtime, "fp32")

    assert validate(fabric, model, dataset, config.stages["joint"], config.training).metrics["dice"] == 1


def test_dice_does_not_depend_on_the_batch_size(make_config: MakeConfig, val_set: SliceDataset) -> None:
    torch.manual_seed(0)
    model = MultitaskModel(make_config().model, TASKS)
    found = []
    for batch_size in (3, 16):
        config = make_config(f"training.batch_size={batch_size}", "training.precision=fp32")
        fabric = make_fabric(config.runtime, "fp32")
        found.append(validate(fabric, model, val_set, config.stages["joint"], config.training).metrics)

    assert found[0]["dice"] == pytest.approx(found[1]["dice"], abs=1e-4)
    assert found[0]["auc"] == found[1]["auc"]


def test_pictures_without_mask_count_for_auc_alone(score: Callable[..., dict[str, float]]) -> None:
    volume = Made("A", [4, 0], [4, 0])
    alone, both = score(volume), score(volume, Made("P", [0, 5], [5, 0], has_mask=False))

    assert both["dice"] == alone["dice"] == 1
    assert alone["auc"] == alone["auc_volumes"] == 1
    assert both["auc_pictures"] == 0
    assert both["auc"] == 0.5
    assert "auc_pictures" not in alone


def test_auc_compares_within_a_source_and_weighs_sources_by_slices(
    score: Callable[..., dict[str, float]],
) -> None:
    volume = Made("A", [2, 0, 2, 0], [2, 0, 2, 0])
    pictures = Made("P", [9, 5], [9, 0], has_mask=False)  # healthy, and yet more than the volume's tumour
    assert score(volume, pictures)["auc"] == 1

    upside_down = Made("P", [5, 9], [9, 0], has_mask=False)
    assert score(volume, upside_down)["auc"] == pytest.approx(4 / 6)


@pytest.mark.parametrize("num_pictures", [1, 2, 5])
def test_pictures_do_not_thin_the_mask_loss(
    score: Callable[..., dict[str, float]], num_pictures: int
) -> None:
    """Batches of two: with two pictures or five, some batches hold no mask at all."""
    volume = Made("A", [4, 0, 2, 1], [2, 2, 2, 0])
    pictures = [Made(f"P{place}", [3], [3], has_mask=False) for place in range(num_pictures)]
    alone, both = score(volume), score(volume, *pictures)

    assert alone["val_mask_loss"] > 0
    assert both["val_mask_loss"] == pytest.approx(alone["val_mask_loss"])
    assert both["val_class_loss"] != pytest.approx(alone["val_class_loss"])


def test_the_loss_is_made_of_its_parts_as_in_training(
    score: Callable[..., dict[str, float]], make_config: MakeConfig
) -> None:
    objective = make_config().stages["joint"].objective
    found = score(Made("A", [4, 0, 2], [2, 2, 2]), Made("P", [3, 1, 0], [3, 0, 0], has_mask=False))
    parts = (found["val_mask_loss"], found["val_class_loss"])

    assert found["val_loss"] == pytest.approx(
        objective.segmentation * parts[0] + objective.classification * parts[1]
    )
    only_pictures = score(Made("P", [3, 1], [3, 0], has_mask=False))
    assert only_pictures["val_mask_loss"] == 0
    assert only_pictures["val_loss"] == objective.classification * only_pictures["val_class_loss"]


def test_auc_of_one_class_is_left_out_and_counts_as_chance(
    score: Callable[..., dict[str, float]], make_config: MakeConfig
) -> None:
    metrics = score(Made("A", [4, 4], [4, 4]))
    dice, auc, both, last = (
        make_config().stages["joint"].model_copy(update={"monitor": monitor})
        for monitor in ("dice", "auc", "dice+auc", "last")
    )

    assert "auc" not in metrics
    assert monitor_score(metrics, auc) == 0.5
    assert monitor_score(metrics, both) == 0.75
    assert monitor_score(metrics, last) == 1, "the mean of what there is, which is read and not chosen by"
    assert monitor_score({"val_loss": 1.0}, last) == 0.5
    assert is_score_defined(metrics, dice)
    assert not is_score_defined(metrics, both)


def test_a_stage_is_scored_on_what_it_learns_or_monitors(score: Callable[..., dict[str, float]]) -> None:
    case = Made("A", [4, 0], [4, 0])

    assert "auc" not in score(case, stage="seg_warmup")
    assert "dice" not in score(case, stage="cls_head")
    assert {"dice", "auc", "val_loss", "val_mask_loss", "val_class_loss"} <= set(score(case))


@pytest.mark.parametrize("stage", ["seg_warmup", "cls_head", "joint"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_answers_that_are_no_numbers_are_told_before_any_figure(
    score: Callable[..., dict[str, float]], stage: str, bad: float
) -> None:
    case = Made("A", [4, 0, 2], [2, 0, 2])
    case.stored_images[2, 0, 3, 3] = bad

    with pytest.raises(FloatingPointError):
        score(case, stage=stage)


def test_a_mask_that_is_no_number_is_told_of_a_picture_too(score: Callable[..., dict[str, float]]) -> None:
    """Its mask is in no loss and in no Dice, but it is what the network would answer."""
    picture = Made("P", [3, 1], [3, 0], has_mask=False)
    picture.stored_images[0, 0, 3, 3] = np.nan

    with pytest.raises(FloatingPointError):
        score(Made("A", [4, 0], [4, 0]), picture, stage="seg_warmup")


def test_the_network_is_left_in_evaluation_mode_without_gradients(
    make_config: MakeConfig, val_set: SliceDataset
) -> None:
    config = make_config()
    model = MultitaskModel(config.model, config.tasks).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fabric = make_fabric(config.runtime, "fp32")

    validate(fabric, model, val_set, config.stages["joint"], config.training)

    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(isinstance(module, nn.BatchNorm2d) and module.training for module in model.modules())
