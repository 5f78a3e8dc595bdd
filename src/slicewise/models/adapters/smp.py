"""Architectures of segmentation_models_pytorch."""

from typing import Any, Final

import segmentation_models_pytorch as smp
from torch import nn

from slicewise.config.schema import Model
from slicewise.core.errors import ConfigError
from slicewise.models.base import Adapter
from slicewise.models.pretrained import PACKAGED_WEIGHTS, find_packaged_weights, load_packaged_weights

_TIMM: Final = "tu-"
_UNKNOWN_TO_TIMM: Final = "Unknown model"


def build(settings: Model, in_channels: int, num_classes: int) -> Adapter:
    """Return an architecture with packaged weights, those of its library's hub, or random ones."""
    base = _create(settings, in_channels, num_classes)
    head = base.segmentation_head
    channels = next(layer.in_channels for layer in head.modules() if isinstance(layer, nn.Conv2d))
    return Adapter(base.encoder, base.decoder, head, channels, settings.stride or 1)


def _create(settings: Model, in_channels: int, num_classes: int) -> Any:
    path = find_packaged_weights(settings)
    weights: str | bool | None = None if path else settings.encoder_weights
    if weights and str(settings.encoder).startswith(_TIMM):
        weights = True  # timm's encoders have one set of weights, named in the encoder
    try:
        base = smp.create_model(
            settings.architecture,
            encoder_name=settings.encoder,
            encoder_weights=weights,
            in_channels=in_channels,
            classes=num_classes,
            **_depth_arguments(settings),
        )
    except OSError as error:  # huggingface_hub cannot reach its server
        raise ConfigError(
            f"model.encoder_weights={settings.encoder_weights} of model.encoder={settings.encoder} cannot be "
            f"downloaded ({str(error).partition('. ')[0]}); set model.encoder_weights=null, or choose an "
            f"encoder whose weights are installed: {', '.join(PACKAGED_WEIGHTS)}"
        ) from error
    except (KeyError, ValueError, RuntimeError) as error:
        mismatch = not isinstance(error, RuntimeError) or isinstance(error, NotImplementedError)
        if not mismatch and _UNKNOWN_TO_TIMM not in str(error):  # a lack of memory, say
            raise
        raise ConfigError(
            f"model.architecture={settings.architecture} with model.encoder={settings.encoder}, "
            f"model.encoder_depth={settings.encoder_depth}, model.encoder_weights={settings.encoder_weights} "
            f"cannot be built: {error}; resnet18, resnet34, resnet50 and mobilenet_v2 at depth 5 always can"
        ) from error
    if path:
        load_packaged_weights(base.encoder, path)
    return base


def _depth_arguments(settings: Model) -> dict[str, Any]:
    """Return the encoder's depth, and what the decoder needs to match it.

    The width of a decoder block doubles with every halving of the map. PSPNet reads its features at stride 8
    (Zhao 2017), never deeper.
    """
    depth = settings.depth
    if settings.architecture in ("unet", "unetplusplus", "manet"):
        widths = tuple(settings.decoder_width * 2**block for block in reversed(range(depth)))
        return {"encoder_depth": depth, "decoder_channels": widths}
    if settings.architecture == "fpn":  # its pyramid stops three levels above
        return {"encoder_depth": depth, "upsampling": 2 ** (depth - 3)}
    return {"encoder_depth": depth}
