import pytest
import torch
from torch import Tensor

from slicewise.config.schema import Model
from slicewise.config.schema.training import Part
from slicewise.models.freezing import set_frozen
from slicewise.models.multitask import PARTS, MultitaskModel, build_model, modules_by_part


def train_steps(net: MultitaskModel, num_steps: int = 3) -> None:
    learnable = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(learnable, lr=0.1, weight_decay=0.1)
    for _ in range(num_steps):
        net.train()
        prediction = net(torch.randn(4, 4, 32, 32), torch.ones(4, 4))
        (prediction.mask_logits.square().mean() + prediction.class_logits.square().mean()).backward()
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
    net = build_model(model)
    set_frozen(net, frozen)
    before = snapshot(net)

    train_steps(net)

    after = snapshot(net)
    for part in PARTS:
        same = [torch.equal(before[part][name], after[part][name]) for name in before[part]]
        assert all(same) if part in frozen else not all(same)


def test_frozen_statistics_stay_while_the_weights_learn(model: Model) -> None:
    torch.manual_seed(0)
    net = build_model(model)
    set_frozen(net, (), statistics=True)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    train_steps(net)
    moved = {name for name, tensor in net.state_dict().items() if not torch.equal(before[name], tensor)}

    assert not any("running_" in name or "num_batches" in name for name in moved)
    assert any(name.startswith("encoder.") for name in moved)
    assert any(name.startswith("decoder.") for name in moved)


def test_frozen_statistics_are_what_a_batch_is_normalised_with(model: Model) -> None:
    """Beside bright pictures a slice looks the same as alone; with statistics of the batch it would not."""
    torch.manual_seed(0)
    net = build_model(model.model_copy(update={"head_dropout": 0.0}))
    dark, bright, presence = torch.randn(2, 4, 32, 32), 5 + torch.randn(2, 4, 32, 32), torch.ones(4, 4)

    def beside(images: Tensor) -> Tensor:
        net.train()
        with torch.no_grad():
            logits: Tensor = net(torch.cat([dark, images]), presence).mask_logits[:2]
        return logits

    set_frozen(net, (), statistics=True)
    assert torch.allclose(beside(dark), beside(bright), atol=1e-4)
    set_frozen(net, ())
    assert not torch.allclose(beside(dark), beside(bright), atol=1e-2)


def test_dropout_is_off_in_a_frozen_head(model: Model) -> None:
    net = build_model(model)
    set_frozen(net, ("encoder", "decoder", "head"))
    net.train()
    images, presence = torch.randn(4, 4, 32, 32), torch.ones(4, 4)

    assert torch.equal(net(images, presence).class_logits, net(images, presence).class_logits)


def test_thawing_gives_a_part_back_to_training(model: Model) -> None:
    net = build_model(model).train()
    set_frozen(net, ("encoder",))
    set_frozen(net, ())

    assert all(module.training for module in net.modules())
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_without_the_guard_batch_norm_would_drift(model: Model) -> None:
    """The reason for `net.frozen`: gradients alone do not freeze a part."""
    net = build_model(model)
    for parameter in net.encoder.parameters():
        parameter.requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in net.encoder.state_dict().items()}

    train_steps(net)

    assert any(not torch.equal(before[name], tensor) for name, tensor in net.encoder.state_dict().items())
