from pathlib import Path

import pytest
import torch

from slicewise.core.errors import CheckpointError
from slicewise.training.state import Metrics, Progress, load_state, save_state


def test_progress_and_tensors_come_back(tmp_path: Path) -> None:
    progress = Progress(
        epoch=2, iteration=5, sums=(1.5, 2.0, 0.0, 3.0), top_score=0.25, start_metrics={"dice": 0.25}
    )
    save_state(tmp_path / "last.pth", "f", progress, {"weights": {"a": torch.arange(3)}})

    found = load_state(tmp_path / "last.pth", "f")

    assert found is not None
    assert found[0] == progress
    assert torch.equal(found[1]["weights"]["a"], torch.arange(3))
    assert str(progress) == "epoch 3, batch 5"


def test_no_file_and_another_run_are_nothing_to_go_on_from(tmp_path: Path) -> None:
    assert load_state(tmp_path / "last.pth", "f") is None
    save_state(tmp_path / "last.pth", "f", Progress(), {})

    assert load_state(tmp_path / "last.pth", "g") is None


def test_a_foreign_file_is_named(tmp_path: Path) -> None:
    torch.save([1], tmp_path / "last.pth")

    with pytest.raises(CheckpointError, match=r"last\.pth"):
        load_state(tmp_path / "last.pth", "f")


def test_the_start_is_epoch_0_where_it_may_be_kept() -> None:
    history: list[Metrics] = [{"epoch": 1, "dice": 0.6}]

    assert Progress(history=history).rows == history
    assert Progress(history=history, start_metrics={"dice": 0.5}).rows == [
        {"epoch": 0, "dice": 0.5},
        *history,
    ]


def test_whole_numbers_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "last.pth"
    save_state(path, "f", Progress(history=[{"epoch": 1, "loss": 2.0}]), {})
    found = load_state(path, "f")
    assert found is not None
    assert [repr(value) for value in found[0].history[0].values()] == ["1", "2.0"]
