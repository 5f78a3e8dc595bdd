"""The two memory layouts of images; `.ci/run` plays other processors with it."""

import numpy as np
import torch
from tests.training.conftest import MakeConfig
from tests.training.exact import UNIT, double_pass, longest_sum, smoothed
from torch import Tensor

from slicewise.config.schema import Config
from slicewise.data.loading.dataset import SliceDataset
from slicewise.training.learner import Learner, encode_targets

EXACT = ("training.precision=fp32", "model.head_dropout=0")


def test_the_memory_layout_changes_no_more_than_rounding(
    make_config: MakeConfig, train_set: SliceDataset
) -> None:
    """Either layout is as near to the pass in fp64 as sums in fp32 can be expected to be, on any processor.

    Errors of rounding in a sum of n terms grow like the square root of n (Higham 2002, section 2.8).
    """
    some, others = [*range(6), 40, 41], [*range(8, 14), 42, 43]  # the last two of each are pictures
    config, batch = make_config(*EXACT), train_set.gather(np.array(some))
    exact, rounded = double_pass(config, batch), double_pass(config, batch, rounding=True)
    channels_first = make_config(*EXACT, "training.channels_last=false")
    found = [one_pass(each, train_set, some) for each in (config, channels_first)]
    other = one_pass(config, train_set, others)

    learning = [name for name, tensor in exact.items() if tensor.any()]  # behind a zero there is no gradient
    assert len(learning) > 30
    for name in learning:
        bound = longest_sum(config, batch) ** 0.5 * (difference(rounded[name], exact[name]) + UNIT)
        assert max(difference(tensors[name], exact[name]) for tensors in found) < bound, name
        assert difference(other[name], exact[name]) > 10 * bound, f"{name} tells two batches apart"


def difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference as a share of the largest value."""
    return float((one.double() - other.double()).abs().max() / other.double().abs().max())


def one_pass(config: Config, dataset: SliceDataset, indices: list[int]) -> dict[str, Tensor]:
    """Return the logits of one batch and the gradient of every weight."""
    torch.manual_seed(0)
    learner = Learner(config.stages["joint"], config, None, num_steps=1)
    smoothed(learner.model)
    batch = dataset.gather(np.array(indices)).to(learner.device, config.training.channels_last)
    batch = encode_targets(batch, learner.model.tasks)
    loss = learner.accumulate(batch, 1).total.detach()
    with torch.no_grad():
        answers = learner.model.eval()(batch.images, batch.presence)
    weights = learner.model.named_parameters()
    gradients = {name: weight.grad for name, weight in weights if weight.grad is not None}
    return {**gradients, "loss": loss, "masks": answers["segmentation"], "classes": answers["classification"]}
