"""An architecture of another package: two levels of convolutions, without any library.

Its package declares it in pyproject.toml:

    [project.entry-points."slicewise.architectures"]
    two_levels = "my_package.architecture:two_levels"

and a configuration chooses it: `model.architecture=two_levels model.encoder=null model.encoder_weights=null`.
"""

from torch import Tensor, nn
from torch.nn.functional import interpolate

from slicewise.config.schema import Model
from slicewise.models.base import Adapter


class Encoder(nn.Module):
    """Two feature maps, at the resolution of the images and at half of it."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU())
        self.coarse = nn.Sequential(nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.ReLU())

    def forward(self, images: Tensor) -> list[Tensor]:
        fine = self.fine(images)
        return [fine, self.coarse(fine)]


class Decoder(nn.Module):
    """The coarse map at full resolution, added to the fine one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(2 * width, width, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        fine, coarse = features
        return interpolate(self.reduce(coarse), scale_factor=2.0, mode="nearest") + fine


def two_levels(settings: Model, in_channels: int, num_classes: int) -> Adapter:
    """Return the architecture in its parts."""
    width = settings.decoder_width
    return Adapter(
        encoder=Encoder(in_channels, width),
        decoder=Decoder(width),
        mask_head=nn.Conv2d(width, num_classes, 1),
        channels=width,
        stride=2,
    )
