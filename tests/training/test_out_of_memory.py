import resource
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest
from tests.training.conftest import MakeConfig, TrainOne

from slicewise.core.disk import MIB
from slicewise.core.errors import TrainingError
from slicewise.training.stage import explain_out_of_memory


def test_a_batch_that_does_not_fit_is_named_with_the_remedy(train_one: TrainOne, tmp_path: Path) -> None:
    short = ("stages.joint.epochs=1", "training.iterations_per_epoch=1")
    train_one(tmp_path / "small", *short)  # what is imported late is there before memory is short
    before = resource.getrlimit(resource.RLIMIT_AS)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 400 * MIB, before[1]))
        with pytest.raises(TrainingError, match="ran out of memory") as caught:
            train_one(tmp_path / "large", *short, "training.batch_size=6000")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    told = str(caught.value)
    assert told.startswith("joint ran out of memory with training.batch_size=6000 slices of 32 x 32")
    assert "training.batch_size=3000 with training.accumulate=2" in told
    train_one(tmp_path / "large", *short, "training.batch_size=8", "training.accumulate=2")


def test_a_gpus_shortage_is_the_same_and_other_errors_pass(make_config: MakeConfig) -> None:
    import torch

    with pytest.raises(TrainingError, match="two slices do not fit"), _explained(make_config):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
    with pytest.raises(RuntimeError, match="shapes"), _explained(make_config):
        raise RuntimeError("shapes")


def _explained(make_config: MakeConfig) -> AbstractContextManager[None]:
    return explain_out_of_memory("joint", make_config("training.batch_size=2"))
