"""Grad-CAM (Selvaraju 2017) and its variants: saliency maps of the logit of tumour, or of a class.

They are computed on the decoder's feature map, whose mean and maximum the classification head reads. They
weigh it by the mean gradient of each channel (Grad-CAM), by other weights per channel (Grad-CAM++,
XGrad-CAM), or pixel by pixel (HiResCAM, LayerCAM).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from slicewise.compute.device import full_precision
from slicewise.config.schema.evaluation import Explanation

if TYPE_CHECKING:
    from slicewise.models.multitask import MultitaskModel

_CLASSES: dict[Explanation, str] = {
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMPlusPlus",
    "xgradcam": "XGradCAM",
    "hirescam": "HiResCAM",
    "layercam": "LayerCAM",
}
"""Class names of pytorch-grad-cam."""


def compute_gradcam(
    model: "MultitaskModel",
    images: NDArray[np.floating],
    presence: ArrayLike,
    *,
    inside: NDArray[np.bool_] | None = None,
    batch_size: int = 16,
    targets: Sequence[int] | None = None,
) -> NDArray[np.float32]:
    """Return the saliency maps of Grad-CAM; see `compute_saliency`."""
    return compute_saliency(
        model, images, presence, ["gradcam"], inside=inside, batch_size=batch_size, targets=targets
    )["gradcam"]


def compute_saliency(
    model: "MultitaskModel",
    images: NDArray[np.floating],
    presence: ArrayLike,
    methods: Sequence[Explanation],
    *,
    inside: NDArray[np.bool_] | None = None,
    batch_size: int = 16,
    targets: Sequence[int] | None = None,
) -> dict[str, NDArray[np.float32]]:
    """Return saliency maps [S, N, N] by method, each slice scaled to 0..1; all zero without evidence.

    The model is left unchanged: hooks, gradients and training mode. Frozen parameters make no difference.

    Args:
        model: the model.
        images: [S, 4, N, N] as `imaging.slicing.prepare` makes them.
        presence: filled modality slots, [4] for all slices or [S, 4].
        methods: methods of explanation; the decoder's map is computed once for all of them.
        inside: [S, N, N]; where given, saliency outside is set to 0 before the scaling.
        batch_size: slices per pass.
        targets: [S] the class of each slice that the map is evidence for; None: the last one, tumour.
    """
    last = model.tasks["classification"].num_channels - 1
    numbers = [last] * len(images) if targets is None else targets
    num_slices, size = len(images), images.shape[-1]
    slots = np.broadcast_to(np.asarray(presence, dtype=np.float32), (num_slices, images.shape[1]))
    saliency_maps: dict[str, NDArray[np.float32]] = {
        method: np.empty((num_slices, size, size), dtype=np.float32) for method in methods
    }
    with _frozen_eval_mode(model), full_precision():
        for start in range(0, num_slices, batch_size):
            part = slice(start, start + batch_size)
            decoded_images = _DecodedImages(model, np.array(images[part], np.float32), np.array(slots[part]))
            for method in methods:
                saliency_maps[method][part] = _compute_cam(decoded_images, method, numbers[part])
    if inside is not None:
        for saliency in saliency_maps.values():  # scaled again: the maximum may have been outside
            saliency *= inside
            maximum = saliency.max(axis=(1, 2), keepdims=True)
            np.divide(saliency, maximum, out=saliency, where=maximum > 0)
    return saliency_maps


class _DecodedImages(nn.Module):
    """Decoded images with the head as a module for pytorch-grad-cam: images in, logits [B, channel] out.

    Only the head is differentiated. The map passes through an identity, so that hooks sit on this wrapper and
    never on the model, whatever its layers are called.
    """

    def __init__(
        self, model: "MultitaskModel", images: NDArray[np.float32], presence: NDArray[np.float32]
    ) -> None:
        super().__init__()
        device = next(model.parameters()).device
        self.images = torch.from_numpy(images).to(device, memory_format=torch.channels_last)
        with torch.no_grad():
            encoded = model.encode(self.images, torch.from_numpy(presence).to(device))
            self.decoded = model.decode(encoded)
        self.decoded.requires_grad_()
        self.head = model.class_head
        self.tap = nn.Identity()

    def forward(self, _images: Tensor) -> Tensor:
        """Return the logits of the decoded images; pytorch-grad-cam passes the images once more."""
        logits: Tensor = self.head(self.tap(self.decoded))
        return logits


def _compute_cam(
    decoded_images: _DecodedImages, method: Explanation, numbers: Sequence[int]
) -> NDArray[np.float32]:
    # Imports scikit-learn and matplotlib, which takes seconds; the API starts without it.
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam: Any = getattr(pytorch_grad_cam, _CLASSES[method])(
        model=decoded_images, target_layers=[decoded_images.tap]
    )
    try:  # not `with cam`: its exit swallows IndexError
        with torch.enable_grad():
            targets = [*map(ClassifierOutputTarget, numbers)]
            saliency: NDArray[np.float32] = cam(decoded_images.images, targets=targets)
    finally:
        cam.activations_and_grads.release()
    return saliency


@contextmanager
def _frozen_eval_mode(model: "MultitaskModel") -> Iterator[None]:
    """Freeze the parameters and set evaluation mode inside the block; only activations need gradients."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    was_training = model.training
    try:
        model.eval().requires_grad_(False)
        yield
    finally:
        model.train(was_training)
        for parameter in trainable:
            parameter.requires_grad_(True)
