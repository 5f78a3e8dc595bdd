from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from slicewise.config.schema import Config, Objective
from slicewise.config.schema.training import StageName
from slicewise.data.loading.dataset import SliceDataset
from slicewise.domain.labels import CLASS_NAMES
from slicewise.models.checkpoint import Checkpoint
from slicewise.models.multitask import build_model
from slicewise.training.objective import (
    ActiveTasks,
    TaskModel,
    compute_losses,
    may_keep_initial_weights,
    untrained_tasks,
)

MakeConfig = Callable[..., Config]


def test_a_task_of_weight_zero_is_neither_learned_nor_computed(make_config: MakeConfig) -> None:
    model = build_model(make_config().model)

    class Fails(nn.Module):
        def forward(self, *_: object) -> None:
            raise AssertionError("computed though nobody asked")

    model.mask_head = Fails()
    outputs = TaskModel(model, ActiveTasks.trained(Objective(segmentation=0, classification=1))).eval()(
        torch.randn(2, 4, 32, 32), torch.ones(2, 4)
    )

    assert outputs.mask_logits is None
    assert outputs.class_logits.shape == (2,)


def test_stages_learn_and_monitor_their_own_tasks(make_config: MakeConfig) -> None:
    stages = make_config().stages

    assert ActiveTasks.trained(stages.seg_warmup.objective) == (True, False)
    assert ActiveTasks.trained(stages.cls_head.objective) == (False, True)
    assert ActiveTasks.validated(stages.joint) == (True, True)
    dice_too = stages.cls_head.model_copy(update={"monitor": "dice+auc"})
    assert ActiveTasks.validated(dice_too) == (True, True)


def test_what_no_stage_teaches_is_handed_on(make_config: MakeConfig) -> None:
    config = make_config()
    stages = config.stages
    whole = Checkpoint(
        {}, config.model, config.preprocessing, CLASS_NAMES, "joint", {}, "a" * 64, "lgg", False, "flair"
    )
    masks_only = replace(whole, not_trained=("classification",))

    assert untrained_tasks(stages.seg_warmup, None) == ("classification",)
    assert untrained_tasks(stages.seg_warmup, whole) == (
        "classification",
    )  # of another run, as in the evaluation
    assert untrained_tasks(stages.cls_head, masks_only) == ()
    assert untrained_tasks(stages.joint, whole) == ()
    single = stages.joint.model_copy(update={"objective": Objective(segmentation=1, classification=0)})
    assert untrained_tasks(single, masks_only) == ("classification",)


@pytest.mark.parametrize(
    ("stage", "overrides", "expected"),
    [
        ("joint", [], True),
        ("joint", ["stages.joint.monitor=last"], False),
        ("cls_head", [], False),  # its head is random
        ("cls_head", ["stages.seg_warmup.objective.classification=1"], False),  # in the loss, but frozen
        (
            "cls_head",
            ["stages.seg_warmup.objective.classification=1", "stages.seg_warmup.learning_rates.head=1e-3"],
            True,
        ),
        ("joint", ["stages.joint.starts_from=null"], True),  # weights of another run, if any
        ("seg_warmup", [], True),
    ],
)
def test_weights_that_learned_nothing_yet_are_no_rival(
    make_config: MakeConfig, stage: StageName, overrides: list[str], expected: bool
) -> None:
    assert may_keep_initial_weights(make_config(*overrides), stage) == expected


def test_the_total_is_the_weighted_sum(make_config: MakeConfig, train_set: SliceDataset) -> None:
    config = make_config()
    torch.manual_seed(0)
    batch = train_set.gather(np.arange(0, 46, 4))
    outputs = TaskModel(build_model(config.model), ActiveTasks(True, True))(batch.images, batch.presence)

    losses = compute_losses(outputs, batch, Objective(segmentation=2, classification=0.5), config.training)

    assert losses.mask > 0
    assert losses.classification > 0
    assert losses.total.item() == pytest.approx((2 * losses.mask + 0.5 * losses.classification).item())
