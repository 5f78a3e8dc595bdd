"""What a stage keeps of the machine that it began on, and what it may choose anew."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.training.test_stage import PowerFailureError, PullsThePlug, same, table

from slicewise.compute import threads
from slicewise.compute.device import PrecisionChoice
from slicewise.compute.threads import ThreadSetting
from slicewise.data.loading.dataset import SliceDataset
from slicewise.training import learner
from slicewise.training.stage import StageResult

TrainOne = Callable[..., StageResult]
SHORT = (
    "stages.joint.epochs=2",
    "training.iterations_per_epoch=4",
    "runtime.checkpoint_seconds=1e-6",
)
MID_EPOCH = 4
"""Batches read when the first run ends, two of them ahead of training"""


def test_a_stage_that_is_resumed_keeps_its_precision(
    train_one: TrainOne, train_set: SliceDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fastest = ["bf16"]

    def choose(wanted: str, device: str) -> PrecisionChoice:
        return PrecisionChoice(fastest[0], "measured")  # type: ignore[arg-type]  # one of the three

    monkeypatch.setattr(learner, "choose_precision", choose)
    overrides = (*SHORT, "training.precision=auto")
    assert train_one(tmp_path / "whole", *overrides).precision == "bf16"
    with pytest.raises(PowerFailureError):
        train_one(tmp_path / "cut", *overrides, data=PullsThePlug(train_set, MID_EPOCH))
    fastest[0] = "fp32"
    result = train_one(tmp_path / "cut", *overrides)
    assert result.resumed_from is not None
    assert (result.precision, result.precision_reason) == ("bf16", "as the stage was begun")
    assert same(tmp_path / "whole", tmp_path / "cut")

    assert train_one(tmp_path / "other", *overrides).precision == "fp32"
    assert not same(tmp_path / "whole", tmp_path / "other")


@pytest.fixture
def fastest(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of threads that a measurement finds the fastest; it is due at every epoch."""
    number = [2]

    def measure(options: tuple[ThreadSetting, ...], *rest: object) -> dict[ThreadSetting, float]:
        return {option: 1.0 if option.number == number[0] else 0.1 for option in options}

    for name in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "measure_rates", measure)
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    monkeypatch.setattr(threads, "_SHARE", 1e9)
    return number


def test_an_epoch_that_is_resumed_keeps_its_threads_and_the_next_one_may_have_others(
    train_one: TrainOne, train_set: SliceDataset, tmp_path: Path, fastest: list[int]
) -> None:
    overrides = (*SHORT, "runtime.num_threads=0")
    with pytest.raises(PowerFailureError):
        train_one(tmp_path, *overrides, data=PullsThePlug(train_set, MID_EPOCH))
    fastest[0] = 1
    result = train_one(tmp_path, *overrides)
    assert result.resumed_from is not None
    assert result.threads_by_epoch == [2, 1]
    assert [row["num_threads"] for row in table(tmp_path)] == ["2", "1"]


def test_a_number_that_is_set_never_changes(train_one: TrainOne, tmp_path: Path, fastest: list[int]) -> None:
    result = train_one(tmp_path, *SHORT, "runtime.num_threads=1")
    assert result.threads_by_epoch == [1, 1]
