from collections.abc import Callable

import pytest
import torch

from slicewise.compute.precision import choose_precision
from slicewise.config.schema import Config
from slicewise.core.errors import UsageError
from slicewise.training.device import make_fabric, repeatable

MakeConfig = Callable[..., Config]


def test_precision_decides_what_a_convolution_is_computed_in(make_config: MakeConfig) -> None:
    runtime = make_config().runtime
    layer, image = torch.nn.Conv2d(1, 1, 3), torch.randn(1, 1, 8, 8)
    found = []
    for precision in ("fp32", "bf16"):
        with make_fabric(runtime, precision).autocast():
            found.append(layer(image).dtype)

    assert found == [torch.float32, torch.bfloat16]


def test_fp16_is_for_gpus(make_config: MakeConfig) -> None:
    assert choose_precision("fp16", "cuda").precision == "fp16"
    assert choose_precision("fp16", "cpu").precision in ("bf16", "fp32")
    assert make_fabric(make_config().runtime, "fp16").device.type == "cpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_device_that_is_not_there_is_named(make_config: MakeConfig) -> None:
    with pytest.raises(UsageError, match=r"runtime\.device is cuda"):
        make_fabric(make_config("runtime.device=cuda").runtime, "fp32")


def test_threads_are_those_asked_for_and_are_given_back(make_config: MakeConfig) -> None:
    before = torch.get_num_threads()
    with repeatable(make_config("runtime.num_threads=3").runtime):
        assert torch.get_num_threads() == 3
        assert torch.backends.cudnn.deterministic
    with repeatable(make_config("runtime.num_threads=0").runtime):
        assert torch.get_num_threads() >= 1
    assert torch.get_num_threads() == before
