"""One network, two answers: where the tumour is, and whether there is one.

Encoder, decoder and mask head come from segmentation_models_pytorch; the classification head is ours.
"""

import math
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, get_args

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from slicewise.config.schema import Model
from slicewise.config.schema.training import Part
from slicewise.core.errors import ConfigError
from slicewise.domain.labels import NUM_MODALITIES
from slicewise.models.depthwise import use_fp32_depthwise
from slicewise.models.heads import ClassHead
from slicewise.models.pretrained import PACKAGED_WEIGHTS, find_packaged_weights, load_packaged_weights
from slicewise.models.pruning import prune_unused_stages

PARTS: Final[tuple[Part, ...]] = get_args(Part)

_TIMM: Final = "tu-"
_UNKNOWN_TO_TIMM: Final = "Unknown model"
_PSPNET_DEPTH: Final = 3
_TUMOUR_PRIOR: Final = 0.02
_PROBE_SIZE: Final = 64
"""Pixels on a side of the image that shows which stages an encoder uses: two at the deepest one."""


class MultitaskOutput(NamedTuple):
    """Raw scores; a sigmoid turns them into probabilities."""

    mask_logits: Tensor
    """[batch, 1, row, col]"""
    class_logits: Tensor
    """[batch]"""


class SlotTokens(nn.Module):
    """What the network sees in a modality slot that is empty: one learned value per slot."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.zeros(1, NUM_MODALITIES, 1, 1))

    def forward(self, images: Tensor, presence: Tensor) -> Tensor:
        """Fill the empty slots of images [B, 4, N, N] where presence [B, 4] is 0."""
        present = presence[:, :, None, None].to(images.dtype)
        return images * present + (1 - present) * self.values.to(images.dtype)


class MultitaskModel(nn.Module):
    """Encoder and decoder shared by a mask head and a classification head.

    Attributes:
        settings: the configuration section that the network was built from.
        frozen: parts that stay in evaluation mode whatever `train()` says (see `models.freezing`).
        frozen_statistics: whether all batch norms do.
    """

    def __init__(self, settings: Model) -> None:
        super().__init__()
        base = _build_smp_model(settings)
        self.settings = settings
        self.frozen: frozenset[Part] = frozenset()
        self.frozen_statistics = False
        self.slot_tokens = SlotTokens()
        self.encoder: nn.Module = base.encoder
        prune_unused_stages(self.encoder, torch.zeros(1, NUM_MODALITIES, _PROBE_SIZE, _PROBE_SIZE))
        self.decoder: nn.Module = base.decoder
        use_fp32_depthwise(self)
        self.mask_head: nn.Module = base.segmentation_head
        _init_background_bias(self.mask_head)
        self.class_head = ClassHead(
            _decoder_out_channels(self.mask_head), hidden=settings.head_hidden, dropout=settings.head_dropout
        )

    def encode(self, images: Tensor, presence: Tensor) -> list[Tensor]:
        """Return the encoder's feature maps, shallow to deep.

        Args:
            images: float [batch, 4, row, col], z-scores inside the brain and 0 outside.
            presence: float [batch, 4], 1 where the slot holds a modality.
        """
        features: list[Tensor] = self.encoder(self.slot_tokens(images, presence))
        return features

    def decode(self, features: Sequence[Tensor]) -> Tensor:
        """Return the decoder's map [batch, channel, row, col], at full resolution or some octaves below."""
        decoded: Tensor = self.decoder(list(features))
        return decoded

    def forward(self, images: Tensor, presence: Tensor) -> MultitaskOutput:
        """Answer both questions; see `encode` for the shapes."""
        decoded = self.decode(self.encode(images, presence))
        return MultitaskOutput(self.mask_head(decoded), self.class_head(decoded))

    def train(self, mode: bool = True) -> "MultitaskModel":
        """Set training mode, but leave what is frozen in evaluation mode."""
        super().train(mode)
        for part in self.frozen:
            modules_by_part(self)[part].eval()
        if self.frozen_statistics:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self


def build_model(settings: Model) -> MultitaskModel:
    """Build the network that the `model` section describes; weights come from torch's global generator.

    Raises:
        ConfigError: an encoder that is unknown, or that the architecture cannot use.
    """
    return MultitaskModel(settings)


def modules_by_part(model: MultitaskModel) -> dict[Part, nn.ModuleList]:
    """Return the network's modules by part; every parameter and buffer belongs to exactly one."""
    return {
        "encoder": nn.ModuleList([model.slot_tokens, model.encoder]),
        "decoder": nn.ModuleList([model.decoder, model.mask_head]),
        "head": nn.ModuleList([model.class_head]),
    }


def _decoder_out_channels(mask_head: nn.Module) -> int:
    """Return how many channels the decoder gives to its heads."""
    return next(layer.in_channels for layer in mask_head.modules() if isinstance(layer, nn.Conv2d))


def _init_background_bias(mask_head: nn.Module) -> None:
    """Start from the share of tumour pixels instead of one half, which is slow to unlearn (Lin 2017)."""
    for layer in mask_head.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.constant_(layer.bias, math.log(_TUMOUR_PRIOR / (1 - _TUMOUR_PRIOR)))


def _build_smp_model(settings: Model) -> Any:
    path = find_packaged_weights(settings)
    base = _create_smp_model(settings, download=path is None)
    if path:
        load_packaged_weights(base.encoder, path)
    return base


def _create_smp_model(settings: Model, *, download: bool) -> Any:
    """Build the network; `fetched` weights are those that the hub of the encoder's library offers."""
    weights: str | bool | None = settings.encoder_weights if download else None
    if weights and settings.encoder.startswith(_TIMM):
        weights = True  # these have one set of weights, named in the encoder
    try:
        return smp.create_model(
            settings.architecture,
            encoder_name=settings.encoder,
            encoder_weights=weights,
            in_channels=NUM_MODALITIES,
            classes=1,
            **_depth_arguments(settings),
        )
    except OSError as error:  # huggingface_hub's way to say that nothing answered
        raise ConfigError(
            f"model.encoder_weights={settings.encoder_weights} of model.encoder={settings.encoder} cannot be "
            f"fetched ({_first_sentence(error)}); set model.encoder_weights=null, or choose an encoder whose "
            f"weights are installed: {', '.join(PACKAGED_WEIGHTS)}"
        ) from error
    except (KeyError, ValueError, NotImplementedError) as error:  # smp's words for a pair that does not fit
        raise _cannot_build(settings, error) from error
    except RuntimeError as error:
        if _UNKNOWN_TO_TIMM not in str(error):  # a lack of memory, say
            raise
        raise _cannot_build(settings, error) from error


def _cannot_build(settings: Model, error: Exception) -> ConfigError:
    return ConfigError(
        f"model.architecture={settings.architecture} with model.encoder={settings.encoder}, "
        f"model.encoder_depth={settings.encoder_depth}, model.encoder_weights={settings.encoder_weights} "
        f"cannot be built: {error}; resnet18, resnet34, resnet50 and mobilenet_v2 at depth 5 always can"
    )


def _first_sentence(error: Exception) -> str:
    return str(error).partition(". ")[0]


def _depth_arguments(settings: Model) -> dict[str, Any]:
    """Depth, and decoder widths to match. PSPNet reads its features at stride 8 (Zhao 2017), never deeper."""
    if settings.architecture == "pspnet":
        return {"encoder_depth": _PSPNET_DEPTH}
    arguments: dict[str, Any] = {"encoder_depth": settings.encoder_depth}
    if settings.architecture in ("unet", "unetplusplus", "manet"):
        arguments["decoder_channels"] = _decoder_channels(settings)
    if settings.architecture == "fpn":
        arguments["upsampling"] = 2 ** (settings.encoder_depth - 3)  # its pyramid stops three levels above
    return arguments


def _decoder_channels(settings: Model) -> tuple[int, ...]:
    """Return the width of each decoder block, deep to shallow: it doubles with every halving of the map."""
    return tuple(settings.decoder_width * 2**block for block in reversed(range(settings.encoder_depth)))
