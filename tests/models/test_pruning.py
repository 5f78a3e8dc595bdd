import pytest
import torch
from tests.fixtures.small_model import TASKS
from torch import Tensor, nn

from slicewise.config.schema import Model
from slicewise.models.multitask import MultitaskModel
from slicewise.models.optimize import prune_unused_stages


class Stages(nn.Module):
    """Three stages, of which the second is asked through its parts and the last not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 1)
        self.second = nn.ModuleList([nn.BatchNorm2d(2)])
        self.third = nn.Conv2d(2, 2, 1)

    def forward(self, image: Tensor) -> list[Tensor]:
        return [self.second[0](self.first(image))]


def test_only_stages_that_no_image_meets_are_dropped_and_the_answer_stays() -> None:
    stages = Stages()
    image = torch.randn(2, 1, 4, 4)
    before = stages.eval()(image)[0]

    prune_unused_stages(stages.train(), image[:1])

    assert [name for name, _ in stages.named_children()] == ["first", "second"]
    assert stages.training
    assert stages.second[0].num_batches_tracked == 0
    assert torch.equal(stages.eval()(image)[0], before)


@pytest.mark.parametrize("encoder", ["resnet18", "tu-tf_efficientnet_lite0"])
def test_every_weight_of_a_shallow_network_gets_a_gradient(model: Model, encoder: str) -> None:
    shallow = {**model.model_dump(), "architecture": "unet", "encoder": encoder, "encoder_depth": 4}
    net = MultitaskModel(Model.model_validate(shallow), TASKS)

    prediction = net(torch.randn(2, 4, 64, 64), torch.tensor([[1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 1.0]]))
    (prediction["segmentation"].mean() + prediction["classification"].mean()).backward()

    assert [name for name, weight in net.named_parameters() if weight.grad is None] == []
    assert sum(weight.numel() for weight in net.parameters()) < 4e6


class Chain(nn.Module):
    """As timm does it: all stages are computed, the first two are answered with."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()) for _ in range(4)))

    def forward(self, image: Tensor) -> list[Tensor]:
        maps = [image]
        for block in self.blocks:
            maps.append(block(maps[-1]))
        return maps[:3]


def test_the_end_of_a_chain_that_nobody_reads_is_dropped() -> None:
    chain = Chain()
    image = torch.randn(2, 1, 4, 4)
    before = chain(image)

    with torch.no_grad():
        prune_unused_stages(chain, image[:1])

    assert len(chain.blocks) == 2
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(chain(image), before, strict=True))
    assert all(weight.grad is None for weight in chain.parameters())


def test_without_a_history_no_chain_is_cut() -> None:
    with torch.inference_mode():
        chain = Chain()
        prune_unused_stages(chain, torch.randn(1, 1, 4, 4))

    assert len(chain.blocks) == 4
