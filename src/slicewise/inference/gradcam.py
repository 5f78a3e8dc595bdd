"""Grad-CAM (Selvaraju 2017) and its relatives: which places raised the tumour logit.

The head reads the mean and the maximum of the decoder's map, so the heat is taken there. The methods differ
in how they weigh the map: by the mean gradient over each channel (Grad-CAM), by other weights per channel
(Grad-CAM++, XGrad-CAM), or place by place (HiResCAM, LayerCAM).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from slicewise.config.schema.evaluation import Explanation
from slicewise.models.multitask import MultitaskNet

_CLASSES: dict[Explanation, str] = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMPlusPlus",
    "xgradcam": "XGradCAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
}
"""The names of pytorch-grad-cam."""


def gradcam(
    model: MultitaskNet,
    images: NDArray[np.floating],
    presence: ArrayLike,
    *,
    inside: NDArray[np.bool_] | None = None,
    batch_size: int = 16,
) -> NDArray[np.float32]:
    """Return the heat of Grad-CAM; see `explain`."""
    return explain(model, images, presence, "gradcam", inside=inside, batch_size=batch_size)


def explain(
    model: MultitaskNet,
    images: NDArray[np.floating],
    presence: ArrayLike,
    method: Explanation,
    *,
    inside: NDArray[np.bool_] | None = None,
    batch_size: int = 16,
) -> NDArray[np.float32]:
    """Return heat [S, N, N], each slice scaled to 0..1; all zero where nothing speaks for a tumour.

    The network is left as it was: no hook, no gradient, no changed mode. Frozen parameters do not matter.

    Args:
        model: the network.
        images: [S, 4, N, N] as `imaging.slicing.prepare` makes them.
        presence: filled modality slots, [4] for all slices or [S, 4].
        method: how the decoder's map is weighed.
        inside: [S, N, N]; where given, heat outside is set to 0.
        batch_size: slices per pass.
    """
    num_slices, side = len(images), images.shape[-1]
    slots = np.broadcast_to(np.asarray(presence, dtype=np.float32), (num_slices, images.shape[1]))
    heat = np.empty((num_slices, side, side), dtype=np.float32)
    with _untouched(model):
        for start in range(0, num_slices, batch_size):
            part = slice(start, start + batch_size)
            inputs = np.array(images[part], np.float32), np.array(slots[part])
            heat[part] = _heat(model, method, *inputs)
    return heat if inside is None else heat * inside


class _ClassLogit(nn.Module):
    """The network as Grad-CAM wants it: images in, logits [B, 1] out, and a module that emits the map.

    The map passes through an identity, so that hooks sit on this wrapper and never on the network, and any
    decoder will do, whatever it calls its layers.
    """

    def __init__(self, model: MultitaskNet, presence: Tensor) -> None:
        super().__init__()
        self.model = model
        self.presence = presence
        self.tap = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        decoded = self.tap(self.model.decode(self.model.encode(images, self.presence)))
        logits: Tensor = self.model.class_head(decoded)
        return logits[:, None]


def _heat(
    model: MultitaskNet,
    method: Explanation,
    images: NDArray[np.float32],
    presence: NDArray[np.float32],
) -> NDArray[np.float32]:
    # The package pulls in scikit-learn and matplotlib: seconds that only this call should pay.
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    device = next(model.parameters()).device
    inputs = torch.from_numpy(images).to(device, memory_format=torch.channels_last).requires_grad_()
    network = _ClassLogit(model, torch.from_numpy(presence).to(device))
    cam: Any = getattr(pytorch_grad_cam, _CLASSES[method])(model=network, target_layers=[network.tap])
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
