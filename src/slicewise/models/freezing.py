"""Frozen means frozen: no gradient, batch-norm statistics untouched, dropout off."""

from collections.abc import Iterable

from slicewise.config.schema.training import Part
from slicewise.models.multitask import MultitaskNet, parts


def set_frozen(net: MultitaskNet, frozen: Iterable[Part], *, statistics: bool = False) -> None:
    """Freeze exactly the parts named and thaw the others.

    With `statistics` the batch norms of all parts keep, and normalise with, the statistics that they have;
    their weights learn as before.

    A frozen part gets no gradient and stays in evaluation mode even after `net.train()`: with
    `requires_grad=False` alone, its batch-norm statistics would follow the new data.
    """
    net.frozen, net.frozen_statistics = frozenset(frozen), statistics
    for name, modules in parts(net).items():
        modules.requires_grad_(name not in net.frozen)
    net.train(net.training)
