"""The script most people write first: segmentation_models_pytorch, BCE and Dice, Adam, fp32, no augmentation.

It reads the slices of our pipeline and starts from the same installed ImageNet weights where ours does: our
normalisation and the first layer for a fourth channel are shared.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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
from slicewise.data.store import StoredCase
from slicewise.domain.labels import NUM_MODALITIES
from slicewise.models.adapters.smp import find_packaged_weights, load_packaged_weights

RATE: Final = 1e-3
Loader = DataLoader[tuple[Tensor, ...]]
Curve = list[tuple[float, float]]
"""(seconds of the processor, mean Dice of the validation patients) after each epoch"""


@dataclass(frozen=True)
class Budget:
    """Limits of the training of one fold."""

    seconds: float
    batch_size: int
    threads: int
    """0: torch's default"""
    seed: int
    chooses: bool
    """Whether to keep the epoch with the best validation Dice; else the last one, as in our training"""


def plain_dice(
    model: Model,
    subsets: Mapping[str, Sequence[StoredCase]],
    budget: Budget,
) -> dict[str, float]:
    """Train in a process of its own; return the Dice of each patient of the test subset.

    Validation is part of the budget. When the time is over within an epoch, the present weights are tested.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_train_and_test, model, subsets, budget).result()


def _train_and_test(
    model: Model, subsets: Mapping[str, Sequence[StoredCase]], budget: Budget
) -> dict[str, float]:
    torch.manual_seed(budget.seed)
    if budget.threads:
        torch.set_num_threads(budget.threads)
    unet = _build_unet(model)
    loader: Loader = DataLoader(_tensors(subsets["train"]), budget.batch_size, shuffle=True, drop_last=True)
    best = -1.0
    weights: dict[str, Any] = {}
    for _ in _epochs(unet, loader, budget.seconds):
        if budget.chooses:
            dice = float(np.mean([*_dice(unet, subsets["val"], budget.batch_size).values()]))
            if dice > best:
                best, weights = dice, {name: tensor.clone() for name, tensor in unet.state_dict().items()}
    if weights:
        unet.load_state_dict(weights)
    return _dice(unet, subsets["test"], budget.batch_size)


def plain_curve(model: Model, subsets: Mapping[str, Sequence[StoredCase]], budget: Budget) -> Curve:
    """Train in a process of its own; return the Dice of the validation subset after each epoch.

    The budget, and the time of each Dice, are seconds of the processor spent on training.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_train_and_validate, model, subsets, budget).result()


def _train_and_validate(model: Model, subsets: Mapping[str, Sequence[StoredCase]], budget: Budget) -> Curve:
    torch.manual_seed(budget.seed)
    torch.set_num_threads(budget.threads)
    unet, curve, validations = _build_unet(model), list[tuple[float, float]](), list[float]()
    loader: Loader = DataLoader(_tensors(subsets["train"]), budget.batch_size, shuffle=True, drop_last=True)
    began = time.process_time()
    for _ in _epochs(unet, loader, budget.seconds, lambda: time.process_time() - sum(validations)):
        before = time.process_time()
        dice = float(np.mean([*_dice(unet, subsets["val"], budget.batch_size).values()]))
        curve.append((before - sum(validations) - began, dice))
        validations.append(time.process_time() - before)
    return curve


def _build_unet(model: Model) -> Any:
    widths = tuple(model.decoder_width * 2**step for step in reversed(range(model.encoder_depth)))
    unet = smp.Unet(
        model.encoder,
        model.encoder_depth,
        encoder_weights=None,
        decoder_channels=widths,
        in_channels=NUM_MODALITIES,
    )
    weights = find_packaged_weights(model)
    if weights:
        load_packaged_weights(unet.encoder, weights)
    return unet


def _epochs(
    unet: nn.Module, loader: Loader, seconds: float, clock: Callable[[], float] = time.monotonic
) -> Iterator[None]:
    """Yield after each epoch, and once more when the time is over."""
    optimizer = torch.optim.Adam(unet.parameters(), RATE)
    cross_entropy, overlap = nn.BCEWithLogitsLoss(), smp.losses.DiceLoss("binary")
    end = clock() + seconds
    while clock() < end:
        unet.train()
        for images, masks in loader:
            optimizer.zero_grad()
            logits = unet(images)
            torch.autograd.backward(cross_entropy(logits, masks) + overlap(logits, masks))
            optimizer.step()
            if clock() > end:
                break
        yield


@torch.no_grad()
def _dice(unet: nn.Module, cases: Sequence[StoredCase], batch_size: int) -> dict[str, float]:
    unet.eval()
    sums: dict[str, list[float]] = {}
    for case in cases:
        sums_of_patient = sums.setdefault(case.key.patient, [0.0, 0.0])
        for images, masks in DataLoader(_tensors([case]), batch_size):
            predicted = unet(images) > 0
            sums_of_patient[0] += 2 * float((predicted & (masks > 0)).sum())
            sums_of_patient[1] += float(predicted.sum()) + float(masks.sum())
    return {patient: overlap / extent if extent else 1.0 for patient, (overlap, extent) in sums.items()}


def _tensors(cases: Sequence[StoredCase]) -> TensorDataset:
    images = np.concatenate([case.images for case in cases]).astype(np.float32)
    masks = np.concatenate([case.masks for case in cases])[:, None] > 0
    return TensorDataset(torch.from_numpy(images), torch.from_numpy(masks.astype(np.float32)))
