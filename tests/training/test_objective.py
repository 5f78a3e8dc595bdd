from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from slicewise.config.schema import Config, Objective
from slicewise.domain.labels import CLASS_NAMES
from slicewise.models.checkpoint import Checkpoint
from slicewise.models.multitask import MultitaskModel
from slicewise.training.objective import ActiveTasks, untrained_tasks

MakeConfig = Callable[..., Config]


def test_a_task_of_weight_zero_is_neither_learned_nor_computed(make_config: MakeConfig) -> None:
    model = MultitaskModel(make_config().model)

    class Fails(nn.Module):
        def forward(self, *_: object) -> None:
            raise AssertionError("computed though nobody asked")

    model.mask_head = Fails()
    tasks = ActiveTasks.trained(Objective(segmentation=0, classification=1))
    outputs = model.eval()(torch.randn(2, 4, 32, 32), torch.ones(2, 4), **tasks._asdict())

    assert outputs.mask_logits is None
    assert outputs.class_logits.shape == (2,)


def test_stages_learn_and_monitor_their_own_tasks(make_config: MakeConfig) -> None:
    stages = make_config().stages

    assert ActiveTasks.trained(stages["seg_warmup"].objective) == (True, False)
    assert ActiveTasks.trained(stages["cls_head"].objective) == (False, True)
    assert ActiveTasks.validated(stages["joint"]) == (True, True)
    dice_too = stages["cls_head"].model_copy(update={"monitor": "dice+auc"})
    assert ActiveTasks.validated(dice_too) == (True, True)


def test_what_no_stage_teaches_is_handed_on(make_config: MakeConfig) -> None:
    config = make_config()
    stages = config.stages
    whole = Checkpoint(
        {}, config.model, config.preprocessing, CLASS_NAMES, "joint", {}, "a" * 64, "lgg", False, "flair"
    )
    masks_only = replace(whole, not_trained=("classification",))

    assert untrained_tasks(stages["seg_warmup"], None) == ("classification",)
    assert untrained_tasks(stages["seg_warmup"], whole) == (
        "classification",
    )  # of another run, as in the evaluation
    assert untrained_tasks(stages["cls_head"], masks_only) == ()
    assert untrained_tasks(stages["joint"], whole) == ()
    single = stages["joint"].model_copy(update={"objective": Objective(segmentation=1, classification=0)})
    assert untrained_tasks(single, masks_only) == ("classification",)
