from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from slicewise.config.schema import Config
from slicewise.data.loading.dataset import SliceDataset
from slicewise.data.reference import describe_training, known_patients
from slicewise.models.checkpoint import CHECKPOINT_NAME, load_checkpoint
from slicewise.plots.curves import draw_curves
from slicewise.training.artifacts import (
    StageArtifacts,
    choose_slices,
    describe_epoch,
    draw_samples,
    write_history,
)
from slicewise.training.learner import Learner
from slicewise.training.state import Metrics, Progress

pytestmark = pytest.mark.usefixtures("drawn_figures")

MakeConfig = Callable[..., Config]


def test_history_is_a_table_with_blanks_for_what_a_stage_lacks(tmp_path: Path) -> None:
    columns = ["epoch", "learning_rate", "train_loss", "dice", "auc"]
    write_history(tmp_path / "history.csv", columns, [{"epoch": 1, "train_loss": 0.5, "auc": 0.123456789}])

    header, line = (tmp_path / "history.csv").read_text().splitlines()
    assert header == ",".join(columns)
    assert line == "1,,0.5,,0.123457"


def test_an_epoch_is_a_line_with_its_losses_monitored_figures_rate_and_speed(make_config: MakeConfig) -> None:
    row: Metrics = {
        "epoch": 1,
        "learning_rate": 0.001,
        "train_loss": 0.5,
        "train_mask_loss": 0.5,
        "val_loss": 0.4,
    }
    row |= {"dice": 0.8, "auc": 0.7, "score": 0.8, "seconds": 2.0, "num_threads": 1}
    progress = Progress(epoch=1, best_epoch=1, history=[row])
    stages = make_config("stages.seg_warmup.epochs=3", "stages.joint.epochs=3").stages
    line = describe_epoch("seg_warmup", stages["seg_warmup"], progress, 100)
    expected = "train_loss 0.500  val_loss 0.400  dice 0.800  lr 1.0e-03  50 images/s  best"
    assert line == f"seg_warmup 1/3  {expected}"
    progress.epoch = 2
    progress.history.append({**row, "epoch": 2, "train_class_loss": 0.6, "seconds": 3.0})
    line = describe_epoch("joint", stages["joint"], progress, 100)
    assert line.startswith("joint 2/3  train_loss 0.500  train_mask_loss 0.500")
    assert line.endswith("dice 0.800  auc 0.700  lr 1.0e-03  100 images/s")


def test_curves_are_drawn_for_one_epoch_and_for_many(tmp_path: Path) -> None:
    rows = [{"epoch": n, "train_loss": 1 / n, "val_loss": 1.1 / n, "dice": 1 - 1 / n} for n in range(1, 9)]
    for number in (1, 8):
        path = tmp_path / f"{number}.png"
        draw_curves(path, "joint", rows[:number], best_epoch=number, metrics={"dice": "Dice"})

        pixels = read(path)[..., 0]
        assert pixels.shape[1] > 800
        assert (pixels < 200).mean() > 0.005


def test_samples_show_tumour_slices_of_several_patients(val_set: SliceDataset) -> None:
    chosen = choose_slices(val_set, 4)

    assert len(chosen) == 4
    assert set(val_set.labels[chosen]) == {1}
    assert len(set(val_set.case_of[chosen])) == 2
    assert np.array_equal(chosen, choose_slices(val_set, 4))


def test_samples_are_one_row_per_slice(
    make_config: MakeConfig, val_set: SliceDataset, tmp_path: Path
) -> None:
    config = make_config()
    learner = Learner(config.stages["joint"], config, None, num_steps=1)
    for number in (1, 3):
        draw_samples(tmp_path / f"{number}.png", learner, val_set, number)

    one, three = (read(tmp_path / f"{number}.png") for number in (1, 3))
    assert one.shape[1] == three.shape[1]
    assert three.shape[0] > 2.5 * one.shape[0]
    assert (np.ptp(one.reshape(-1, 3), axis=1) > 60).any()


def test_the_best_network_is_kept_with_its_calls(
    make_config: MakeConfig, val_set: SliceDataset, tmp_path: Path
) -> None:
    """A prediction needs no library of architectures then; see `models.program`."""
    config = make_config()
    learner = Learner(config.stages["joint"], config, None, num_steps=1)
    outputs = StageArtifacts(
        "joint", tmp_path, "f" * 64, learner, val_set, describe_training(val_set.cases, "f" * 64)
    )
    outputs.save_best({"dice": 0.5})

    kept = load_checkpoint(tmp_path / CHECKPOINT_NAME)
    assert kept.reference is not None
    assert {*known_patients(kept.reference, val_set.cases)} == {
        (case.key.source, case.group) for case in val_set.cases
    }

    program = kept.build_program(torch.device("cpu"))
    assert program is not None
    size = config.preprocessing.image_size
    images, presence = torch.randn(3, 4, size, size), torch.ones(3, 4)
    images = images.to(memory_format=torch.channels_last)  # as in a prediction
    model = kept.build().to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected, found = model(images, presence), program(images, presence)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def read(path: Path) -> NDArray[np.int64]:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.int64)
