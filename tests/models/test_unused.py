import torch
from torch import Tensor, nn

from slicewise.config.schema import Model
from slicewise.models.multitask import build_model
from slicewise.models.unused import drop_unused_stages


class Stages(nn.Module):
    """Three stages, of which the second is asked through its parts and the last not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 1)
        self.second = nn.ModuleList([nn.BatchNorm2d(2)])
        self.third = nn.Conv2d(2, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.second[0](self.first(image))
        return features


def test_only_stages_that_no_image_meets_are_dropped_and_the_answer_stays() -> None:
    stages = Stages()
    image = torch.randn(2, 1, 4, 4)
    before = stages.eval()(image)

    drop_unused_stages(stages.train(), image[:1])

    assert [name for name, _ in stages.named_children()] == ["first", "second"]
    assert stages.training
    assert stages.second[0].num_batches_tracked == 0
    assert torch.equal(stages.eval()(image), before)


def test_every_weight_of_a_shallow_network_gets_a_gradient(model: Model) -> None:
    shallow = {**model.model_dump(), "architecture": "unet", "encoder": "resnet18", "encoder_depth": 4}
    net = build_model(Model.model_validate(shallow))

    prediction = net(torch.randn(2, 4, 64, 64), torch.tensor([[1.0, 0.0, 1.0, 1.0], [1.0, 1.0, 0.0, 1.0]]))
    (prediction.mask_logits.mean() + prediction.class_logits.mean()).backward()

    assert [name for name, weight in net.named_parameters() if weight.grad is None] == []
    assert sum(weight.numel() for weight in net.parameters()) < 4e6
