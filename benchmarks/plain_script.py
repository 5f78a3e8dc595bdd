"""The script most people write first: segmentation_models_pytorch, BCE and Dice, Adam, fp32, no augmentation.

It reads the slices that our pipeline prepared and begins with the same installed weights of ImageNet, where
ours does: it gets our normalisation, and what our first layer makes of a fourth channel, as a present.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, Final

import numpy as np
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from slicewise.config.schema import Model
from slicewise.core.labels import NUM_MODALITIES
from slicewise.data.stored import StoredCase
from slicewise.models.pretrained import load_shipped, shipped_file

RATE: Final = 1e-3
Loader = DataLoader[tuple[Tensor, ...]]


@dataclass(frozen=True)
class Budget:
    """What a fold may use."""

    seconds: float
    batch_size: int
    threads: int
    """0 leaves them to torch"""
    seed: int
    chooses: bool
    """Whether the epoch with the best validation Dice counts; where ours keeps the last one, so does this"""


def plain_dice(
    model: Model,
    sides: Mapping[str, Sequence[StoredCase]],
    budget: Budget,
) -> dict[str, float]:
    """Train on `sides["train"]` in a process of its own; return the Dice of each patient of `sides["test"]`.

    Validating is part of the budget. When the time is over within an epoch, the network counts as it then is.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_train_and_test, model, sides, budget).result()


def _train_and_test(
    model: Model, sides: Mapping[str, Sequence[StoredCase]], budget: Budget
) -> dict[str, float]:
    torch.manual_seed(budget.seed)
    if budget.threads:
        torch.set_num_threads(budget.threads)
    net = _network(model)
    loader: Loader = DataLoader(_tensors(sides["train"]), budget.batch_size, shuffle=True, drop_last=True)
    best = -1.0
    weights: dict[str, Any] = {}
    for _ in _epochs(net, loader, budget.seconds):
        if budget.chooses:
            dice = float(np.mean([*_dice(net, sides["val"], budget.batch_size).values()]))
            if dice > best:
                best, weights = dice, {name: tensor.clone() for name, tensor in net.state_dict().items()}
    if weights:
        net.load_state_dict(weights)
    return _dice(net, sides["test"], budget.batch_size)


def _network(model: Model) -> Any:
    widths = tuple(model.decoder_width * 2**step for step in reversed(range(model.encoder_depth)))
    net = smp.Unet(
        model.encoder,
        model.encoder_depth,
        encoder_weights=None,
        decoder_channels=widths,
        in_channels=NUM_MODALITIES,
    )
    weights = shipped_file(model)
    if weights:
        load_shipped(net.encoder, weights)
    return net


def _epochs(net: nn.Module, loader: Loader, seconds: float) -> Iterator[None]:
    """Yield after each epoch, and once more when the time is over."""
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    cross_entropy, overlap = nn.BCEWithLogitsLoss(), smp.losses.DiceLoss("binary")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        net.train()
        for images, masks in loader:
            optimizer.zero_grad()
            logits = net(images)
            torch.autograd.backward(cross_entropy(logits, masks) + overlap(logits, masks))
            optimizer.step()
            if time.monotonic() > end:
                break
        yield


@torch.no_grad()
def _dice(net: nn.Module, cases: Sequence[StoredCase], batch_size: int) -> dict[str, float]:
    net.eval()
    sums: dict[str, list[float]] = {}
    for case in cases:
        both = sums.setdefault(case.key.patient, [0.0, 0.0])
        for images, masks in DataLoader(_tensors([case]), batch_size):
            found = net(images) > 0
            both[0] += 2 * float((found & (masks > 0)).sum())
            both[1] += float(found.sum()) + float(masks.sum())
    return {patient: overlap / extent if extent else 1.0 for patient, (overlap, extent) in sums.items()}


def _tensors(cases: Sequence[StoredCase]) -> TensorDataset:
    images = np.concatenate([case.images for case in cases]).astype(np.float32)
    masks = np.concatenate([case.masks for case in cases])[:, None] > 0
    return TensorDataset(torch.from_numpy(images), torch.from_numpy(masks.astype(np.float32)))
