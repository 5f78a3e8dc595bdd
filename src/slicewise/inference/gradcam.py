"""Grad-CAM for the classification head: which places raised the tumour logit.

Grad-CAM (Selvaraju 2017) averages the gradient over each feature map before it weighs the map. That is exact
for a head of mean pooling and one linear layer. Ours also takes maxima, whose gradient sits in single places,
and the average then points anywhere: on LGG patients it put less heat into the tumour than evenly spread heat
would have there. HiResCAM (Draelos and Carin 2020), the default, leaves the average out.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from slicewise.models.multitask import MultitaskNet

Method = Literal["hirescam", "gradcam"]

DEFAULT_LEVEL: Final = 3
"""The shallowest stage that the head reads: the only one that everything it sees has passed through."""


def gradcam(
    model: MultitaskNet,
    images: NDArray[np.floating],
    presence: ArrayLike,
    *,
    method: Method = "hirescam",
    level: int = DEFAULT_LEVEL,
    inside: NDArray[np.bool_] | None = None,
    batch_size: int = 16,
) -> NDArray[np.float32]:
    """Return heat [S, N, N], each slice scaled to 0..1; all zero where nothing speaks for a tumour.

    The network is left as it was: no hook, no gradient, no changed mode. Frozen parameters do not matter.

    Args:
        model: the network; the decoder is not run.
        images: [S, 4, N, N] as `imaging.slicing.prepare` makes them.
        presence: filled modality slots, [4] for all slices or [S, 4].
        method: how gradients weigh the feature maps.
        level: encoder stage to look at, counted from the deepest; higher is finer.
        inside: [S, N, N]; where given, heat outside is set to 0.
        batch_size: slices per pass.

    Raises:
        ValueError: the encoder has no such level.
    """
    num_slices, side = len(images), images.shape[-1]
    slots = np.broadcast_to(np.asarray(presence, dtype=np.float32), (num_slices, images.shape[1]))
    heat = np.empty((num_slices, side, side), dtype=np.float32)
    with _untouched(model):
        for start in range(0, num_slices, batch_size):
            part = slice(start, start + batch_size)
            inputs = np.array(images[part], np.float32), np.array(slots[part])
            heat[part] = _heat(model, *inputs, method, level)
    return heat if inside is None else heat * inside


class _ClassLogit(nn.Module):
    """The network as Grad-CAM wants it: images in, logits [B, 1] out, and a module that emits the level.

    The level passes through an identity, so that hooks sit on this wrapper and never on the network, and any
    encoder will do, whatever it calls its stages.
    """

    def __init__(self, model: MultitaskNet, presence: Tensor, level: int) -> None:
        super().__init__()
        self.model = model
        self.presence = presence
        self.level = level
        self.tap = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        features = list(self.model.encode(images, self.presence))
        if not 1 <= self.level < len(features):
            raise ValueError(f"level {self.level}: this encoder has levels 1 to {len(features) - 1}")
        features[-self.level] = self.tap(features[-self.level])
        return self.model.classify(features)[:, None]


def _heat(
    model: MultitaskNet,
    images: NDArray[np.float32],
    presence: NDArray[np.float32],
    method: Method,
    level: int,
) -> NDArray[np.float32]:
    # The package pulls in scikit-learn and matplotlib: seconds that only this call should pay.
    from pytorch_grad_cam import GradCAM, HiResCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    device = next(model.parameters()).device
    inputs = torch.from_numpy(images).to(device, memory_format=torch.channels_last).requires_grad_()
    network = _ClassLogit(model, torch.from_numpy(presence).to(device), level)
    cam = (HiResCAM if method == "hirescam" else GradCAM)(model=network, target_layers=[network.tap])
    try:  # not `with cam`: its exit swallows IndexError
        with torch.enable_grad():
            heat: NDArray[np.float32] = cam(inputs, targets=[ClassifierOutputTarget(0)] * len(images))
    finally:
        cam.activations_and_grads.release()
    return heat


@contextmanager
def _untouched(model: MultitaskNet) -> Iterator[None]:
    """Freeze the parameters and set evaluation mode for a while; only activations need gradients."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    was_training = model.training
    try:
        model.eval().requires_grad_(False)
        yield
    finally:
        model.train(was_training)
        for parameter in trainable:
            parameter.requires_grad_(True)
