"""MONAI's architectures behind the adapter."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.segresnet import SegResNet
from tests.fixtures.small_model import TASKS
from torch import Tensor, nn

from slicewise.config.compose import compose
from slicewise.config.schema import Model, Preprocessing
from slicewise.config.schema.model import MONAI_ARCHITECTURES
from slicewise.config.schema.training import Part
from slicewise.core.errors import ConfigError
from slicewise.explain.cam import compute_gradcam
from slicewise.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from slicewise.models.multitask import PARTS, MultitaskModel, measure_footprint, modules_by_part
from slicewise.models.program import Program, export_program

SIZE = 64
WIDTH = 8


def overrides(architecture: str, width: int = WIDTH) -> list[str]:
    depth = {"basic_unet": 4, "dynunet": 4, "segresnet": 3}[architecture]
    return [
        f"model.architecture={architecture}",
        "model.encoder=null",
        "model.encoder_weights=null",
        f"model.encoder_depth={depth}",
        f"model.decoder_width={width}",
    ]


@pytest.fixture(params=MONAI_ARCHITECTURES)
def settings(request: pytest.FixtureRequest) -> Model:
    return compose(overrides(request.param)).model


@pytest.fixture
def net(settings: Model) -> MultitaskModel:
    torch.manual_seed(0)
    return MultitaskModel(settings, TASKS)


def batch(number: int = 2) -> tuple[Tensor, Tensor]:
    return torch.randn(number, 4, SIZE, SIZE), torch.ones(number, 4)


def reference(settings: Model) -> nn.Module:
    """MONAI's own class with the same settings."""
    shape: dict[str, Any] = {"spatial_dims": 2, "in_channels": 4, "out_channels": 1}
    if settings.architecture == "basic_unet":
        monai: nn.Module = BasicUNet(**shape, features=(8, 16, 32, 64, 128, 8))
    elif settings.architecture == "dynunet":
        strides = [1, 2, 2, 2, 2]
        monai = DynUNet(
            **shape, kernel_size=[3] * 5, strides=strides, upsample_kernel_size=strides[1:],
            filters=[8, 16, 32, 64, 128],
        )  # fmt: skip
    else:
        monai = SegResNet(**shape, init_filters=8)
    return monai


def test_the_parts_together_give_the_logits_of_monais_class(settings: Model, net: MultitaskModel) -> None:
    torch.manual_seed(0)
    whole = reference(settings).eval()
    for layer in net.mask_head.modules():  # it begins with the share of tumour pixels
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            expected = [one for one in whole.modules() if isinstance(one, nn.Conv2d)]
            bias = next(one.bias for one in expected if one.out_channels == 1)
            layer.bias = bias
    images, presence = batch()

    with torch.no_grad():
        ours, theirs = net.eval()(images, presence)["segmentation"], whole(images)

    assert torch.equal(ours, theirs)


def test_a_step_moves_every_part_and_frozen_ones_keep_every_bit(net: MultitaskModel) -> None:
    def step(frozen: tuple[Part, ...]) -> set[Part]:
        """Return the parts that a step changes."""
        net.freeze(frozen, statistics=True)
        before = {part: snapshot(modules) for part, modules in modules_by_part(net).items()}
        optimizer = torch.optim.SGD([weight for weight in net.parameters() if weight.requires_grad], lr=0.1)
        output = net.train()(*batch())
        (output["segmentation"].square().mean() + output["classification"].square().mean()).backward()
        optimizer.step()
        return {
            part
            for part, modules in modules_by_part(net).items()
            if any(not torch.equal(before[part][name], one) for name, one in modules.state_dict().items())
        }

    assert step(()) == set(PARTS)
    for part in PARTS:
        assert step((part,)) == set(PARTS) - {part}


def snapshot(modules: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in modules.state_dict().items()}


def test_a_program_gives_the_bits_of_its_model(net: MultitaskModel) -> None:
    exported = export_program(net.eval(), SIZE)

    assert exported is not None
    images, presence = batch(3)
    with torch.inference_mode():
        program = Program(exported, net.state_dict(), {"segmentation": 1, "classification": 1})
        found, expected = program(images, presence), net(images, presence)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_checkpoint_comes_back_whole(settings: Model, net: MultitaskModel, tmp_path: Path) -> None:
    preprocessing: Preprocessing = compose([f"preprocessing.image_size={SIZE}"]).preprocessing
    checkpoint = Checkpoint(
        net.state_dict(), settings, preprocessing, TASKS, "joint", {}, "a" * 64, "brats", False, "flair"
    )
    save_checkpoint(tmp_path / "best_model.pth", checkpoint)

    loaded = load_checkpoint(tmp_path / "best_model.pth", settings).build()

    images, presence = batch()
    assert torch.equal(loaded(images, presence)["segmentation"], net.eval()(images, presence)["segmentation"])
    assert dataclasses.replace(checkpoint, weights={}) != checkpoint


def test_saliency_and_footprint_see_it(settings: Model, net: MultitaskModel) -> None:
    images, presence = batch()
    assert compute_gradcam(net, images.numpy(), presence.numpy()).shape == (2, SIZE, SIZE)
    footprint = measure_footprint(settings, TASKS, SIZE, 4)
    assert footprint.num_weights == sum(one.numel() for one in (*net.parameters(), *net.buffers()))
    assert footprint.num_activations > footprint.peak_activations


def test_the_usual_u_net_has_31_million_weights() -> None:
    assert (
        31e6
        < measure_footprint(compose(overrides("basic_unet", 64)).model, TASKS, SIZE, 4).num_weights
        < 31.2e6
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.architecture=unte"], "did you mean unet"),
        (["model.encoder=null"], "unet needs one"),
        (["model.architecture=dynunet"], "set model.encoder=null model.encoder_weights=null"),
        ([*overrides("basic_unet"), "model.encoder_depth=5"], "set model.encoder_depth=4"),
        ([*overrides("segresnet"), "model.decoder_width=12"], "multiple of 8"),
        ([*overrides("segresnet"), "preprocessing.image_size=100"], r"multiple of 8.*choose 96 or 104"),
        (["preprocessing.image_size=100"], r"multiple of 16.*choose 96 or 112"),
    ],
)
def test_settings_that_an_architecture_cannot_use_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose(words)


def test_images_that_do_not_fit_are_refused(net: MultitaskModel) -> None:
    with pytest.raises(ConfigError, match="multiple of"):
        net(torch.zeros(1, 4, 60, 60), torch.ones(1, 4))
