"""Pruned models: what is left computes, and is built again from its section of the configuration."""

import pytest
import torch
from tests.fixtures.small_model import MODEL, SIDE, TASKS

from slicewise.config.schema import Model
from slicewise.core.errors import ConfigError, UsageError
from slicewise.models.multitask import MultitaskModel
from slicewise.models.pruning import prune

IMAGES, PRESENCE = torch.randn(2, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(0)), torch.ones(2, 4)
TINY = {"encoder": "tu-test_resnet", "encoder_depth": 3, "decoder_width": 8}
ALONE = {"architecture": "segresnet", "encoder": None, "encoder_depth": 3, "decoder_width": 16}
DEPTHWISE = {"encoder": "tu-tf_efficientnet_lite0", "encoder_depth": 3, "decoder_width": 8}


def model(**changes: object) -> MultitaskModel:
    torch.manual_seed(0)
    return MultitaskModel(Model.model_validate({**MODEL.model_dump(), **changes}), TASKS)


def num_weights(of: MultitaskModel) -> int:
    return sum(weight.numel() for weight in of.parameters())


@pytest.mark.parametrize("changes", [DEPTHWISE, ALONE, {**TINY, "architecture": "fpn"}])
def test_a_pruned_model_is_built_again_from_its_section(changes: dict[str, object]) -> None:
    pruned = model(**changes)
    whole = num_weights(pruned)
    settings = prune(pruned, 0.5)
    assert num_weights(pruned) < 0.7 * whole
    again = MultitaskModel(Model.model_validate(settings.model_dump(mode="json")), TASKS).eval()
    again.load_state_dict(pruned.state_dict(), strict=True)
    with torch.no_grad():
        expected, found = (each.eval()(IMAGES, PRESENCE) for each in (pruned, again))
    for name, logits in expected.items():
        assert logits.shape == model(**changes)(IMAGES, PRESENCE)[name].shape
        torch.testing.assert_close(found[name], logits, rtol=0, atol=0)


def test_a_pruned_model_learns_and_is_pruned_again() -> None:
    pruned = model(**TINY)
    first = prune(pruned, 0.3)
    pruned.train()(IMAGES, PRESENCE)["segmentation"].sum().backward()
    second = prune(pruned, 0.4)
    assert dict(first.widths or ()).keys() <= dict(second.widths or ()).keys()
    MultitaskModel(second, TASKS).load_state_dict(pruned.state_dict(), strict=True)


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        ((("encoder.nothing", (3, 4, 1)),), "encoder.nothing is no layer"),
        ((("mask_head.0", (8, 1)),), "mask_head.0 is no layer of this model with 2 sizes"),
        ((("mask_head.0", (8, 1, 3)),), "mask_head.0 cannot have the sizes"),
    ],
)
def test_sizes_of_no_layer_are_named(widths: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model(**TINY, widths=widths)


@pytest.mark.parametrize(
    ("changes", "ratio", "message"),
    [
        ({"architecture": "manet", **TINY}, 0.3, "takes hours"),
        ({"architecture": "basic_unet", "encoder": None}, 0.3, "torch-pruning cannot prune"),
    ],
)
def test_what_cannot_be_pruned_is_refused(changes: dict[str, object], ratio: float, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prune(model(**changes), ratio)
