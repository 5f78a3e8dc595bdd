"""Several classes are trained, validated, saved, loaded and predicted."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.inference.pipelines import pipeline
from tests.training.conftest import MakeConfig, TrainOne, make_case

from slicewise.core.errors import ConfigError
from slicewise.data.loading.dataset import SliceDataset
from slicewise.models.checkpoint import CHECKPOINT_NAME, load_checkpoint

OVERLAPPING = (
    "tasks.segmentation.classes=[whole,core]",
    "tasks.segmentation.labels=[[1,2,3],[3]]",
)
EXCLUSIVE = (
    "tasks.segmentation.classes=[edema,core]",
    "tasks.segmentation.labels=[[1,2],[3]]",
    "tasks.segmentation.activation=softmax",
    "tasks.classification.activation=softmax",
    "training.mask_loss={bce:0,ce:1,dice:1}",
    "stages.joint.monitor=dice_core+auc",
)


@pytest.fixture
def two_labels() -> SliceDataset:
    """Slices whose upper half of the tumour is edema."""
    cases = []
    for number in range(4):
        case = make_case(number, 8)
        masks = case.masks.copy()
        masks[:, ::2] = np.where(masks[:, ::2] > 0, 2, 0)
        cases.append(replace(case, masks=masks))
    return SliceDataset({"volumes": cases})


@pytest.mark.parametrize(
    ("overrides", "names"), [(OVERLAPPING, ("whole", "core")), (EXCLUSIVE, ("edema", "core"))]
)
def test_several_classes_are_learned_measured_and_kept(
    train_one: TrainOne,
    two_labels: SliceDataset,
    tmp_path: Path,
    overrides: tuple[str, ...],
    names: tuple[str, str],
) -> None:
    sizes = ("stages.joint.epochs=2", "training.iterations_per_epoch=6", "training.sample_predictions=1")
    result = train_one(tmp_path, *overrides, *sizes, data=two_labels)

    rows = [*csv.DictReader((tmp_path / "history.csv").read_text().splitlines())]
    dice = [float(rows[-1][f"dice_{name}"]) for name in names]
    assert float(rows[-1]["dice"]) == pytest.approx(np.mean(dice), abs=1e-5)
    assert float(rows[-1]["train_mask_loss"]) < float(rows[0]["train_mask_loss"])
    assert {"dice", *(f"dice_{name}" for name in names), "auc"} <= {*result.best_metrics}
    assert any((tmp_path / "samples").iterdir())

    checkpoint = load_checkpoint(tmp_path / CHECKPOINT_NAME)
    assert checkpoint.tasks.segmentation is not None
    assert checkpoint.tasks.segmentation.classes == names
    size = checkpoint.preprocessing.image_size
    images, presence = torch.randn(2, 4, size, size), torch.ones(2, 4)
    program, model = checkpoint.build_program(torch.device("cpu")), checkpoint.build()
    with torch.inference_mode():
        expected = model(images, presence)
    assert expected["segmentation"].shape[1] == checkpoint.tasks.segmentation.num_channels
    if program is not None:
        assert {name: logits.shape for name, logits in program(images, presence).items()} == {
            name: logits.shape for name, logits in expected.items()
        }
    found = pipeline(checkpoint).predict_slices(images.numpy(), presence)
    assert found.mask_probability.shape == (2, len(names), size, size)


def test_a_model_of_one_task_has_neither_the_other_head_nor_its_columns(
    train_one: TrainOne, tmp_path: Path
) -> None:
    sizes = ("stages.joint.epochs=1", "training.iterations_per_epoch=2", "training.sample_predictions=1")
    for recipe, missing in (("segmentation_only", "class"), ("classification_only", "mask")):
        train_one(tmp_path / recipe, f"recipes={recipe}", *sizes)
        checkpoint = load_checkpoint(tmp_path / recipe / CHECKPOINT_NAME)
        assert checkpoint.tasks.names == (recipe.removesuffix("_only"),)
        assert not any(name.startswith(f"{missing}_head.") for name in checkpoint.weights)
        header = (tmp_path / recipe / "history.csv").read_text().partition("\n")[0].split(",")
        assert not {f"train_{missing}_loss", f"val_{missing}_loss"} & {*header}
        assert ("auc" in header, "dice" in header) == (missing == "mask", missing == "class")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["tasks.classification=null"],
            "stages.cls_head.objective.classification is above 0, but tasks.classif",
        ),
        (["stages.joint.monitor=dice+recall"], "the metrics of tasks are dice, auc, without recall"),
        (
            ["recipes=segmentation_only", "stages.joint.monitor=auc"],
            "the metrics of tasks are dice, without auc",
        ),
        (
            [f"stages.{name}.learning_rates.head=0" for name in ("joint",)]
            + ["stages.cls_head.learning_rates={encoder:1e-3,decoder:0,head:0}"],
            "no stage trains tasks.classification",
        ),
        (["tasks={segmentation:null,classification:null}"], "both null"),
        (["training.mask_loss={dise:1}"], "did you mean dice"),
        (
            ["tasks.segmentation.activation=softmax"],
            "training.mask_loss.bce is 1, but tasks.segmentation.activ",
        ),
    ],
)
def test_what_no_stage_could_learn_is_refused(
    make_config: MakeConfig, overrides: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(*overrides)
