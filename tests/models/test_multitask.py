import pytest
import torch
from tests.fixtures.small_model import TASKS
from torch import Tensor

from slicewise.config.schema import Model
from slicewise.config.schema.model import SMP_ARCHITECTURES
from slicewise.config.schema.training import Part
from slicewise.core.errors import ConfigError
from slicewise.models.multitask import PARTS, ClassHead, MultitaskModel, modules_by_part


def changed(model: Model, **keys: object) -> Model:
    return Model.model_validate({**model.model_dump(), **keys})


@pytest.mark.parametrize("architecture", SMP_ARCHITECTURES)
@pytest.mark.parametrize("depth", [3, 5])
def test_every_architecture_answers_both_questions(model: Model, architecture: str, depth: int) -> None:
    net = MultitaskModel(changed(model, architecture=architecture, encoder_depth=depth), TASKS).eval()
    size = 128  # PAN pools its deepest map three times: at depth 5 that of 64 pixels is too small

    with torch.no_grad():
        prediction = net(torch.randn(2, 4, size, size), torch.ones(2, 4))

    assert prediction["segmentation"].shape == (2, 1, size, size)
    assert prediction["classification"].shape == (2, 1)


def test_every_tensor_belongs_to_exactly_one_part(model: Model) -> None:
    net = MultitaskModel(model, TASKS)
    by_part = modules_by_part(net)

    tensors = [*net.parameters(), *net.buffers()]
    owners = [
        [part for part in PARTS if any(tensor is other for other in _tensors(by_part[part]))]
        for tensor in tensors
    ]

    assert all(len(owner) == 1 for owner in owners)
    assert {owner[0] for owner in owners} == {"encoder", "decoder", "head"}


def test_an_empty_slot_is_filled_with_its_token_and_its_pixels_do_not_matter(model: Model) -> None:
    net = MultitaskModel(model, TASKS).eval()
    torch.nn.init.normal_(net.slot_tokens.values)
    images = torch.randn(2, 4, 32, 32)
    presence = torch.tensor([[0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 1.0]])

    first = net(images, presence)
    second = net(torch.where(presence[:, :, None, None] > 0, images, 7.0), presence)
    filled = net.slot_tokens(images, presence)

    assert torch.equal(first["segmentation"], second["segmentation"])
    assert torch.equal(filled[0, 1], net.slot_tokens.values[0, 1].expand(32, 32))
    assert torch.equal(filled[0, 3], images[0, 3])


def test_head_width_and_dropout_are_those_of_the_settings(model: Model) -> None:
    linear = MultitaskModel(changed(model, head_hidden=0), TASKS)
    wide = MultitaskModel(changed(model, head_hidden=48, head_dropout=0.25), TASKS)

    assert sum(isinstance(layer, torch.nn.Linear) for layer in linear.class_head.modules()) == 1
    assert any(getattr(layer, "out_features", 0) == 48 for layer in wide.class_head.modules())
    assert any(getattr(layer, "p", None) == 0.25 for layer in wide.class_head.modules())


@pytest.mark.parametrize("architecture", ["unet", "unetplusplus", "manet"])
def test_a_narrower_decoder_is_smaller_and_has_its_width_at_the_finest_level(
    model: Model, architecture: str
) -> None:
    usual, narrow = (
        MultitaskModel(changed(model, architecture=architecture, encoder_depth=4, decoder_width=width), TASKS)
        for width in (16, 8)
    )

    assert [next(net.mask_head.parameters()).shape[1] for net in (usual, narrow)] == [16, 8]
    assert _size(narrow.decoder) < _size(usual.decoder)
    assert _size(narrow.encoder) == _size(usual.encoder)
    assert narrow(torch.randn(2, 4, 32, 32), torch.ones(2, 4))["segmentation"].shape == (2, 1, 32, 32)


def test_an_unknown_encoder_is_named_with_a_way_out(model: Model) -> None:
    with pytest.raises(ConfigError, match=r"model\.encoder=resnet99.*resnet18"):
        MultitaskModel(changed(model, encoder="resnet99"), TASKS)


def _tensors(module: torch.nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


@pytest.mark.parametrize("architecture", SMP_ARCHITECTURES)
def test_a_decoder_that_says_nothing_means_background(model: Model, architecture: str) -> None:
    net = MultitaskModel(changed(model, architecture=architecture), TASKS)
    nothing = torch.zeros_like(net.decode(net.encode(torch.zeros(2, 4, 64, 64), torch.ones(2, 4))))

    assert torch.allclose(net.mask_head(nothing).sigmoid(), torch.tensor(0.02))


def _size(part: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


def train_steps(net: MultitaskModel, num_steps: int = 3) -> None:
    learnable = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learnable, lr=0.1, weight_decay=0.1)
    for _ in range(num_steps):
        net.train()
        prediction = net(torch.randn(4, 4, 32, 32), torch.ones(4, 4))
        (prediction["segmentation"].square().mean() + prediction["classification"].square().mean()).backward()
        optimizer.step()
        optimizer.zero_grad()


def snapshot(net: MultitaskModel) -> dict[Part, dict[str, Tensor]]:
    return {
        part: {name: tensor.clone() for name, tensor in modules.state_dict().items()}
        for part, modules in modules_by_part(net).items()
    }


@pytest.mark.parametrize("frozen", [("encoder",), ("decoder",), ("encoder", "decoder"), ("head",)])
def test_frozen_parts_keep_every_bit_and_the_others_learn(model: Model, frozen: tuple[Part, ...]) -> None:
    torch.manual_seed(0)
    net = MultitaskModel(model, TASKS)
    net.freeze(frozen)
    before = snapshot(net)

    train_steps(net)

    after = snapshot(net)
    for part in PARTS:
        same = [torch.equal(before[part][name], after[part][name]) for name in before[part]]
        assert all(same) if part in frozen else not all(same)


def test_frozen_statistics_stay_while_the_weights_learn(model: Model) -> None:
    torch.manual_seed(0)
    net = MultitaskModel(model, TASKS)
    net.freeze((), statistics=True)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    train_steps(net)
    moved = {name for name, tensor in net.state_dict().items() if not torch.equal(before[name], tensor)}

    assert not any("running_" in name or "num_batches" in name for name in moved)
    assert any(name.startswith("encoder.") for name in moved)
    assert any(name.startswith("decoder.") for name in moved)


def test_frozen_statistics_are_what_a_batch_is_normalised_with(model: Model) -> None:
    """Beside bright pictures a slice looks the same as alone; with statistics of the batch it would not."""
    torch.manual_seed(0)
    net = MultitaskModel(model.model_copy(update={"head_dropout": 0.0}), TASKS)
    dark, bright, presence = torch.randn(2, 4, 32, 32), 5 + torch.randn(2, 4, 32, 32), torch.ones(4, 4)

    def beside(images: Tensor) -> Tensor:
        net.train()
        with torch.no_grad():
            logits: Tensor = net(torch.cat([dark, images]), presence)["segmentation"][:2]
        return logits

    net.freeze((), statistics=True)
    assert torch.allclose(beside(dark), beside(bright), atol=1e-4)
    net.freeze(())
    assert not torch.allclose(beside(dark), beside(bright), atol=1e-2)


def test_dropout_is_off_in_a_frozen_head(model: Model) -> None:
    net = MultitaskModel(model, TASKS)
    net.freeze(("encoder", "decoder", "head"))
    net.train()
    images, presence = torch.randn(4, 4, 32, 32), torch.ones(4, 4)

    assert torch.equal(net(images, presence)["classification"], net(images, presence)["classification"])


def test_thawing_gives_a_part_back_to_training(model: Model) -> None:
    net = MultitaskModel(model, TASKS).train()
    net.freeze(("encoder",))
    net.freeze(())

    assert all(module.training for module in net.modules())
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_without_the_guard_batch_norm_would_drift(model: Model) -> None:
    """The reason for `MultitaskModel.train`: gradients alone do not freeze a part."""
    net = MultitaskModel(model, TASKS)
    for parameter in net.encoder.parameters():
        parameter.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in net.encoder.state_dict().items()}

    train_steps(net)

    assert any(not torch.equal(before[name], tensor) for name, tensor in net.encoder.state_dict().items())


@pytest.mark.parametrize("hidden", [0, 8])
@pytest.mark.parametrize("size", [4, 33])
def test_the_head_maps_any_map_size_to_one_fp32_logit_per_slice(hidden: int, size: int) -> None:
    head = ClassHead(6, hidden=hidden, dropout=0.5, num_logits=1)

    with torch.autocast("cpu", torch.bfloat16):
        logits = head(torch.randn(3, 6, size, size).bfloat16())

    assert logits.shape == (3, 1)
    assert logits.dtype == torch.float32


def test_a_small_bright_spot_is_not_averaged_away() -> None:
    torch.manual_seed(0)
    head = ClassHead(4, hidden=0, dropout=0.0, num_logits=1).eval()
    plain = torch.zeros(1, 4, 128, 128)
    spot = plain.clone()
    spot[0, 2, 5, 5] = 10

    with torch.no_grad():
        assert (head(spot) - head(plain)).abs().item() > 0.05


def test_the_head_reads_mean_and_maximum_of_each_channel() -> None:
    torch.manual_seed(0)
    head = ClassHead(5, hidden=0, dropout=0.0, num_logits=1)
    decoded = torch.randn(3, 5, 17, 17).to(memory_format=torch.channels_last).requires_grad_()

    logits = head(decoded)
    logits.sum().backward()
    found, decoded.grad = decoded.grad, None
    pooled = torch.cat([decoded.mean((2, 3)), decoded.amax((2, 3))], 1)
    head.layers(pooled).sum().backward()

    torch.testing.assert_close(logits, head.layers(pooled))
    torch.testing.assert_close(found, decoded.grad)
