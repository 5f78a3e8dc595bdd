"""Architectures and encoders to choose from: their parameters, and where their ImageNet weights are."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import segmentation_models_pytorch as smp
import timm
from huggingface_hub import try_to_load_from_cache
from pydantic import ValidationError

from slicewise.config.schema import Config, Model
from slicewise.config.schema.model import ARCHITECTURES, MONAI_ARCHITECTURES, SMP_ARCHITECTURES
from slicewise.core.errors import ConfigError
from slicewise.models.adapters.smp import find_packaged_weights
from slicewise.models.multitask import build_without_memory

Weights = Literal["installed", "downloaded", "to download", "none"]
ENCODERS: Final = {
    "ResNet": ("resnet18", "resnet34", "resnet50"),
    "EfficientNet": ("efficientnet-b0", "efficientnet-b3", "tu-tf_efficientnet_lite0"),
    "MobileNet": ("mobilenet_v2", "tu-mobilenetv3_large_100"),
    "HRNet": ("tu-hrnet_w18_small", "tu-hrnet_w32"),
    "MiT": ("mit_b0", "mit_b2"),
    "Swin": ("tu-swin_tiny_patch4_window7_224", "tu-swin_base_patch4_window7_224"),
}
"""Some of each family; `model.encoder` takes every other one of the libraries, too."""
_OWN_DEPTHS: Final = {"basic_unet": 4, "segresnet": 3}
_WEIGHT_FILES: Final = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True)
class ModelEntry:
    """A model that a configuration can have."""

    architecture: str
    library: str
    encoder: str | None
    family: str | None
    """That of the encoder, if it is one of `ENCODERS`"""
    depth: int
    parameters: int | None
    """Of the whole model, heads included; None where it cannot be built"""
    weights: Weights
    """Those of ImageNet for the encoder"""
    problem: str | None
    """Why it cannot be built"""


def list_models(config: Config) -> list[ModelEntry]:
    """Return every architecture with the encoder of a configuration, then its architecture with others."""
    entries = [_describe(config, settings) for settings in _with_each_architecture(config.model)]
    base = config.model if config.model.architecture in SMP_ARCHITECTURES else None
    names = [name for family in ENCODERS.values() for name in family] if base else []
    others = [{"architecture": config.model.architecture, "encoder": name} for name in names]
    return entries + [_describe(config, {**config.model.model_dump(), **other}) for other in others]


def _with_each_architecture(base: Model) -> Iterator[dict[str, Any]]:
    for name in ARCHITECTURES.names():
        settings = {**base.model_dump(), "architecture": name}
        if name in MONAI_ARCHITECTURES:
            depth = _OWN_DEPTHS.get(name, base.encoder_depth)
            settings |= {"encoder": None, "encoder_weights": None, "encoder_depth": depth}
        yield settings


def _describe(config: Config, settings: dict[str, Any]) -> ModelEntry:
    name, encoder = settings["architecture"], settings["encoder"]
    parameters = problem = None
    try:
        model = Model.model_validate({**settings, "encoder_weights": None})
        built = build_without_memory(model, config.tasks, len(config.preprocessing.channels))
        parameters = sum(weight.numel() for weight in built.parameters())
    except (ConfigError, ValidationError) as error:
        problem = str(error)
    libraries = {SMP_ARCHITECTURES: "segmentation_models_pytorch", MONAI_ARCHITECTURES: "MONAI"}
    return ModelEntry(
        architecture=name,
        library=next((library for names, library in libraries.items() if name in names), "another package"),
        encoder=encoder,
        family=next((family for family, names in ENCODERS.items() if encoder in names), None),
        depth=model.depth if parameters else settings["encoder_depth"],
        parameters=parameters,
        weights=find_weights(config.model.model_copy(update={"encoder": encoder})),
        problem=problem,
    )


def find_weights(settings: Model) -> Weights:
    """Return where the ImageNet weights of the encoder are: installed, in the cache of the hub, or on it."""
    encoder = settings.encoder
    if encoder is None:
        return "none"
    if find_packaged_weights(settings.model_copy(update={"encoder_weights": "imagenet"})):
        return "installed"
    if encoder.startswith("tu-"):
        pretrained = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
        repository = pretrained.hf_hub_id if pretrained else None
    else:
        known = smp.encoders.encoders.get(encoder, {}).get("pretrained_settings", {})
        repository = known.get("imagenet", {}).get("repo_id")
    if not repository:
        return "none"
    cached = any(isinstance(try_to_load_from_cache(repository, name), str) for name in _WEIGHT_FILES)
    return "downloaded" if cached else "to download"
