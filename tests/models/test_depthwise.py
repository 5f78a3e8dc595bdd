from copy import deepcopy

import pytest
import torch
from tests.fixtures.small_model import TASKS
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

from slicewise.config.schema import Model
from slicewise.models.multitask import MultitaskModel
from slicewise.models.optimize import Fp32Conv2d, Fp32Conv2dSame, use_fp32_depthwise

CHANNELS = 6


def layer(kind: type[nn.Conv2d], kernel: int = 5, stride: int = 2, groups: int = CHANNELS) -> nn.Conv2d:
    torch.manual_seed(0)
    return kind(CHANNELS, CHANNELS, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)


def answer(conv: nn.Conv2d, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the layer answers under autocast, and the gradients of images and weights."""
    images = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        convolved = conv(images)
    convolved.float().square().sum().backward()
    assert images.grad is not None
    assert conv.weight.grad is not None
    return convolved, images.grad, conv.weight.grad


@pytest.mark.parametrize(("kind", "wide"), [(nn.Conv2d, Fp32Conv2d), (Conv2dSame, Fp32Conv2dSame)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 1), (5, 2)])
def test_a_wide_layer_answers_what_autocast_would_but_for_rounding(
    kind: type[nn.Conv2d], wide: type[Fp32Conv2d], kernel: int, stride: int
) -> None:
    plain = layer(kind, kernel, stride)
    widened = deepcopy(plain)
    images = torch.randn(2, CHANNELS, 13, 13)

    use_fp32_depthwise(widened)
    ours, reference = answer(widened, images), answer(plain, images)

    assert type(widened) is wide
    assert ours[0].dtype == reference[0].dtype == torch.bfloat16
    for found, expected in zip(ours, reference, strict=True):
        torch.testing.assert_close(found.float(), expected.float(), rtol=0.05, atol=0.05)


def test_gradients_are_closer_to_those_of_fp32_than_in_bfloat16() -> None:
    plain, images = layer(nn.Conv2d), torch.randn(2, CHANNELS, 13, 13)
    widened, exact = deepcopy(plain), deepcopy(plain)
    exact(images).square().sum().backward()
    assert exact.weight.grad is not None

    use_fp32_depthwise(widened)

    ours, reference = answer(widened, images)[2], answer(plain, images)[2]
    assert (ours - exact.weight.grad).abs().mean() < (reference - exact.weight.grad).abs().mean()


def test_without_autocast_nothing_changes() -> None:
    plain, images = layer(nn.Conv2d), torch.randn(2, CHANNELS, 13, 13)
    widened = deepcopy(plain)

    use_fp32_depthwise(widened)

    assert torch.equal(widened(images), plain(images))


@pytest.mark.parametrize("fast", [{"kernel": 3, "stride": 1}, {"groups": 1}, {"groups": 2}])
def test_layers_that_are_fast_anyway_are_left_alone(fast: dict[str, int]) -> None:
    conv = layer(nn.Conv2d, **fast)

    use_fp32_depthwise(conv)

    assert type(conv) is nn.Conv2d


def test_a_layer_of_another_library_is_left_alone() -> None:
    class Own(nn.Conv2d):
        pass

    conv = layer(Own)
    use_fp32_depthwise(conv)

    assert type(conv) is Own


@pytest.mark.parametrize(("encoder", "count"), [("tu-tf_efficientnet_lite0", 7), ("resnet18", 0)])
def test_a_network_keeps_its_names_and_its_copy_is_as_wide(model: Model, encoder: str, count: int) -> None:
    settings = {**model.model_dump(), "architecture": "unet", "encoder": encoder, "encoder_depth": 4}
    net = MultitaskModel(Model.model_validate(settings), TASKS)

    def wide(found: nn.Module) -> list[str]:
        return [name for name, child in found.named_modules() if isinstance(child, Fp32Conv2d)]

    assert len(wide(net)) == count
    assert wide(deepcopy(net)) == wide(net)
    assert all(f"{name}.weight" in net.state_dict() for name in wide(net))
