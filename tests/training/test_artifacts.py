from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from slicewise.config.schema import Config
from slicewise.data.loading.dataset import SliceDataset
from slicewise.models.checkpoint import CHECKPOINT_NAME, load_checkpoint
from slicewise.plots.curves import draw_curves
from slicewise.training.artifacts import StageArtifacts, choose_slices, draw_samples, write_history
from slicewise.training.learner import Learner

MakeConfig = Callable[..., Config]


def test_history_is_a_table_with_blanks_for_what_a_stage_lacks(tmp_path: Path) -> None:
    columns = ["epoch", "learning_rate", "train_loss", "dice", "auc"]
    write_history(tmp_path / "history.csv", columns, [{"epoch": 1, "train_loss": 0.5, "auc": 0.123456789}])

    header, line = (tmp_path / "history.csv").read_text().splitlines()
    assert header == ",".join(columns)
    assert line == "1,,0.5,,0.123457"


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
    outputs = StageArtifacts("joint", tmp_path, "f" * 64, learner, val_set)
    outputs.save_best({"dice": 0.5})

    kept = load_checkpoint(tmp_path / CHECKPOINT_NAME)

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
