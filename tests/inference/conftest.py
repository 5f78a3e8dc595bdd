"""A small network, and one whose evidence is known."""

import pytest
import torch
from torch import Tensor, nn

from slicewise.config.schema import Model, Preprocessing
from slicewise.models.checkpoint import Checkpoint
from slicewise.models.multitask import MultitaskNet, build_model

SIDE = 64
MODEL = Model(
    architecture="unet",
    encoder="resnet18",
    encoder_weights=None,
    encoder_depth=4,
    decoder_width=16,
    head_hidden=8,
    head_dropout=0.2,
)
PREPROCESSING = Preprocessing(
    image_size=SIDE,
    clip_percentiles=(0.5, 99.5),
    crop_margin=0.05,
    min_brain_fraction=0.1,
    healthy_ratio=1.0,
    max_train_slices=64,
)


class Brightness(nn.Module):
    """An encoder and a decoder in one: its map is the first slot, as far as it is bright."""

    def forward(self, images: Tensor) -> list[Tensor]:
        return [images[:, :1].relu()]


class Deepest(nn.Module):
    """A decoder that hands the deepest level on."""

    def forward(self, features: list[Tensor]) -> Tensor:
        return features[-1]


class Mean(nn.Module):
    """A head that says "tumour" the more, the brighter the map is."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(5.0))

    def forward(self, decoded: Tensor) -> Tensor:
        logits: Tensor = self.weight * decoded.mean(dim=(1, 2, 3))
        return logits


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    torch.manual_seed(0)
    net = build_model(MODEL)
    with torch.no_grad():  # batch statistics as after training, so that evaluation mode means something
        for _ in range(3):
            net.train()(torch.randn(4, 4, SIDE, SIDE), torch.ones(4, 4))
    return Checkpoint(
        weights=net.state_dict(),
        model=MODEL,
        preprocessing=PREPROCESSING,
        class_names=("no_tumour", "tumour"),
        stage="joint",
        metrics={"dice": 0.5},
        fingerprint="0" * 64,
        data_name="phantom",
        synthetic=True,
        slot="flair",
    )


@pytest.fixture
def bright_net() -> MultitaskNet:
    net = build_model(MODEL)
    net.encoder, net.decoder = Brightness(), Deepest()
    net.class_head = Mean()  # type: ignore[assignment]  # a stand-in whose evidence is known
    return net.eval()
