import typing

import pytest
import torch

from slicewise.config.schema import Model
from slicewise.config.schema.model import Architecture
from slicewise.core.errors import ConfigError
from slicewise.models.multitask import PARTS, build_model, modules_by_part


def changed(model: Model, **keys: object) -> Model:
    return Model.model_validate({**model.model_dump(), **keys})


@pytest.mark.parametrize("architecture", typing.get_args(Architecture))
@pytest.mark.parametrize("depth", [3, 5])
def test_every_architecture_answers_both_questions(model: Model, architecture: str, depth: int) -> None:
    net = build_model(changed(model, architecture=architecture, encoder_depth=depth)).eval()

    with torch.no_grad():
        prediction = net(torch.randn(2, 4, 64, 64), torch.ones(2, 4))

    assert prediction.mask_logits.shape == (2, 1, 64, 64)
    assert prediction.class_logits.shape == (2,)


def test_every_tensor_belongs_to_exactly_one_part(model: Model) -> None:
    net = build_model(model)
    by_part = modules_by_part(net)

    tensors = [*net.parameters(), *net.buffers()]
    owners = [
        [part for part in PARTS if any(tensor is other for other in _tensors(by_part[part]))]
        for tensor in tensors
    ]

    assert all(len(owner) == 1 for owner in owners)
    assert {owner[0] for owner in owners} == {"encoder", "decoder", "head"}


def test_an_empty_slot_is_filled_with_its_token_and_its_pixels_do_not_matter(model: Model) -> None:
    net = build_model(model).eval()
    torch.nn.init.normal_(net.slot_tokens.values)
    images = torch.randn(2, 4, 32, 32)
    presence = torch.tensor([[0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 1.0]])

    first = net(images, presence)
    second = net(torch.where(presence[:, :, None, None] > 0, images, 7.0), presence)
    filled = net.slot_tokens(images, presence)

    assert torch.equal(first.mask_logits, second.mask_logits)
    assert torch.equal(filled[0, 1], net.slot_tokens.values[0, 1].expand(32, 32))
    assert torch.equal(filled[0, 3], images[0, 3])


def test_head_width_and_dropout_are_those_of_the_settings(model: Model) -> None:
    linear = build_model(changed(model, head_hidden=0))
    wide = build_model(changed(model, head_hidden=48, head_dropout=0.25))

    assert sum(isinstance(layer, torch.nn.Linear) for layer in linear.class_head.modules()) == 1
    assert any(getattr(layer, "out_features", 0) == 48 for layer in wide.class_head.modules())
    assert any(getattr(layer, "p", None) == 0.25 for layer in wide.class_head.modules())


@pytest.mark.parametrize("architecture", ["unet", "unetplusplus", "manet"])
def test_a_narrower_decoder_is_smaller_and_has_its_width_at_the_finest_level(
    model: Model, architecture: str
) -> None:
    usual, narrow = (
        build_model(changed(model, architecture=architecture, encoder_depth=4, decoder_width=width))
        for width in (16, 8)
    )

    assert [next(net.mask_head.parameters()).shape[1] for net in (usual, narrow)] == [16, 8]
    assert _size(narrow.decoder) < _size(usual.decoder)
    assert _size(narrow.encoder) == _size(usual.encoder)
    assert narrow(torch.randn(2, 4, 32, 32), torch.ones(2, 4)).mask_logits.shape == (2, 1, 32, 32)


def test_an_unknown_encoder_is_named_with_a_way_out(model: Model) -> None:
    with pytest.raises(ConfigError, match=r"model\.encoder=resnet99.*resnet18"):
        build_model(changed(model, encoder="resnet99"))


def _tensors(module: torch.nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


@pytest.mark.parametrize("architecture", typing.get_args(Architecture))
def test_a_decoder_that_says_nothing_means_background(model: Model, architecture: str) -> None:
    net = build_model(changed(model, architecture=architecture))
    nothing = torch.zeros_like(net.decode(net.encode(torch.zeros(2, 4, 64, 64), torch.ones(2, 4))))

    assert torch.allclose(net.mask_head(nothing).sigmoid(), torch.tensor(0.02))


def _size(part: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())
