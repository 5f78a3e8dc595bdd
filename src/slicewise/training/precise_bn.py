"""Batch-norm statistics of the network that is kept, measured on slices as they are ("precise BN")."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

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

    What a network gathers in training belongs to augmented slices and, where its weights are averaged, to
    weights of before (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm"; Izmailov 2018). What was there
    before has no part in the result. Frozen parts keep theirs, and a network without others is not run. As
    everywhere in torch the variance is the mean of those within the batches, not that of all their pixels.
    """
    layers = [layer for layer in model.train().modules() if isinstance(layer, _BatchNorm) and layer.training]
    model.eval()  # dropout would be measured, too
    if not layers:
        return
    with _cumulative_average(layers):
        for batch in batches:
            on_device = batch.to(fabric.device, channels_last)
            with fabric.autocast():
                model(on_device.images, on_device.presence)


@contextmanager
def _cumulative_average(layers: list[_BatchNorm]) -> Iterator[None]:
    """Let the layers take plain averages of what they see, from none on."""
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    try:
        yield
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
            layer.eval()
