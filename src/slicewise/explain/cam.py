"""Grad-CAM (Selvaraju 2017) and its relatives: which places raised the tumour logit.

The head reads the mean and the maximum of the decoder's map, so the heat is taken there. The methods differ
in how they weigh the map: by the mean gradient over each channel (Grad-CAM), by other weights per channel
(Grad-CAM++, XGrad-CAM), or place by place (HiResCAM, LayerCAM).
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
"""The names of pytorch-grad-cam."""


def compute_gradcam(
    model: "MultitaskModel",
    images: NDArray[np.floating],
    presence: ArrayLike,
    *,
    inside: NDArray[np.bool_] | None = None,
    batch_size: int = 16,
) -> NDArray[np.float32]:
    """Return the heat of Grad-CAM; see `explain`."""
    return compute_saliency(model, images, presence, ["gradcam"], inside=inside, batch_size=batch_size)[
        "gradcam"
    ]


def compute_saliency(
    model: "MultitaskModel",
    images: NDArray[np.floating],
    presence: ArrayLike,
    methods: Sequence[Explanation],
    *,
    inside: NDArray[np.bool_] | None = None,
    batch_size: int = 16,
) -> dict[str, NDArray[np.float32]]:
    """Return heat [S, N, N] by method, each slice scaled to 0..1; all zero where nothing speaks for a tumour.

    The network is left as it was: no hook, no gradient, no changed mode. Frozen parameters do not matter.

    Args:
        model: the network.
        images: [S, 4, N, N] as `imaging.slicing.prepare` makes them.
        presence: filled modality slots, [4] for all slices or [S, 4].
        methods: ways to weigh the decoder's map, which is computed once for all of them.
        inside: [S, N, N]; where given, heat outside is set to 0 before the scaling.
        batch_size: slices per pass.
    """
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
                saliency_maps[method][part] = _compute_cam(decoded_images, method)
    return (
        saliency_maps
        if inside is None
        else {method: _rescale(saliency * inside) for method, saliency in saliency_maps.items()}
    )


def _rescale(saliency: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale each slice to 0..1 again: the hottest place may have lain outside."""
    maximum = saliency.max(axis=(1, 2), keepdims=True)
    scaled: NDArray[np.float32] = np.divide(saliency, maximum, out=np.zeros_like(saliency), where=maximum > 0)
    return scaled


class _DecodedImages(nn.Module):
    """Images that have passed encoder and decoder, as Grad-CAM wants them: images in, logits [B, 1] out.

    Only the head is differentiated: the heat is taken on the map it reads, so what lies before need not be
    kept. The map passes through an identity, so that hooks sit on this wrapper and never on the network, and
    any decoder will do, whatever it calls its layers.
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
        """Return the logits of the images that were passed; pytorch-grad-cam hands them in once more."""
        logits: Tensor = self.head(self.tap(self.decoded))
        return logits[:, None]


def _compute_cam(decoded_images: _DecodedImages, method: Explanation) -> NDArray[np.float32]:
    # The package pulls in scikit-learn and matplotlib: seconds that only this call should pay.
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    cam: Any = getattr(pytorch_grad_cam, _CLASSES[method])(
        model=decoded_images, target_layers=[decoded_images.tap]
    )
    try:  # not `with cam`: its exit swallows IndexError
        with torch.enable_grad():
            targets = [ClassifierOutputTarget(0)] * len(decoded_images.images)
            saliency: NDArray[np.float32] = cam(decoded_images.images, targets=targets)
    finally:
        cam.activations_and_grads.release()
    return saliency


@contextmanager
def _frozen_eval_mode(model: "MultitaskModel") -> Iterator[None]:
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
