"""Batch-norm statistics of the final weights, measured on slices without augmentation ("precise BN")."""

from collections.abc import Iterable

import torch
from lightning_fabric import Fabric
from torch.nn.modules.batchnorm import _BatchNorm

from slicewise.data.loading.dataset import Batch
from slicewise.models.multitask import MultitaskModel


@torch.no_grad()
def update_bn_statistics(
    fabric: Fabric, model: MultitaskModel, batches: Iterable[Batch], *, channels_last: bool
) -> None:
    """Replace mean and variance of each batch norm by the averages of those of `batches`.

    Statistics gathered in training belong to augmented slices and, where weights are averaged, to earlier
    weights (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm"; Izmailov 2018). Frozen parts keep theirs,
    and a model without others is not run. As everywhere in torch the variance is the mean of those within the
    batches, not that of all their pixels.
    """
    layers = [layer for layer in model.train().modules() if isinstance(layer, _BatchNorm) and layer.training]
    model.eval()  # dropout would be measured, too
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # all batches have equal weights
        layer.train()
    try:
        for batch in batches:
            on_device = batch.to(fabric.device, channels_last)
            with fabric.autocast():
                model(on_device.images, on_device.presence)
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()
