"""The sizes of layers, from which a pruned model is built: `model.widths`."""

from typing import Any, Final

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from slicewise.config.schema.model import Widths
from slicewise.core.errors import ConfigError

_SIZES: Final[tuple[tuple[type[nn.Module], tuple[str, ...]], ...]] = (
    (_ConvNd, ("in_channels", "out_channels", "groups")),
    (nn.Linear, ("in_features", "out_features")),
    (_NormBase, ("num_features",)),
    (nn.GroupNorm, ("num_channels", "num_groups")),
)
"""The attributes that are a layer's sizes"""


def layer_sizes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the sizes of each layer that has some, by its name: see `_SIZES`."""
    return {
        name: tuple(int(getattr(layer, attribute)) for attribute in attributes)
        for name, layer in model.named_modules()
        if (attributes := _attributes(layer))
    }


def set_layer_sizes(model: nn.Module, widths: Widths) -> None:
    """Give layers other sizes, and new weights.

    Raises:
        ConfigError: the model has no such layer, or a layer cannot have such sizes.
    """
    layers = dict(model.named_modules())
    for name, sizes in widths:
        layer: Any = layers.get(name)
        attributes = _attributes(layer)
        if len(attributes) != len(sizes) or not attributes:
            raise ConfigError(f"model.widths: {name} is no layer of this model with {len(sizes)} sizes")
        for attribute, size in zip(attributes, sizes, strict=True):
            setattr(layer, attribute, size)
        try:
            _renew(layer)
        except (RuntimeError, ZeroDivisionError) as error:
            raise ConfigError(f"model.widths: {name} cannot have the sizes {sizes} ({error})") from error


def _attributes(layer: nn.Module | None) -> tuple[str, ...]:
    return next((names for kind, names in _SIZES if isinstance(layer, kind)), ())


def _renew(layer: Any) -> None:
    """Replace the tensors of a layer by new ones of its sizes."""
    shape: tuple[int, ...]
    if isinstance(layer, _ConvNd) and (layer.in_channels % layer.groups or layer.out_channels % layer.groups):
        raise RuntimeError(f"{layer.groups} groups do not divide them")
    match layer:
        case _ConvTransposeNd():
            shape = (layer.in_channels, layer.out_channels // layer.groups, *layer.kernel_size)
            length = layer.out_channels
        case _ConvNd():
            shape = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
            length = layer.out_channels
        case nn.Linear():
            shape, length = (layer.out_features, layer.in_features), layer.out_features
        case nn.GroupNorm():
            shape, length = (layer.num_channels,), layer.num_channels
        case _:
            shape, length = (layer.num_features,), layer.num_features
    for name, tensor in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
        if tensor.ndim:  # not the number of batches
            new = torch.empty(shape if name == "weight" else (length,), dtype=tensor.dtype)
            is_weight = isinstance(tensor, nn.Parameter)
            setattr(layer, name, nn.Parameter(new) if is_weight else new)
    layer.reset_parameters()
