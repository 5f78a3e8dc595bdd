"""Frozen means frozen: no gradient, batch-norm statistics untouched, dropout off."""

from collections.abc import Iterable

from slicewise.config.schema.training import Part
from slicewise.models.multitask import MultitaskNet, parts


def set_frozen(net: MultitaskNet, frozen: Iterable[Part]) -> None:
    """Freeze exactly the parts named and thaw the others.

    A frozen part gets no gradient and stays in evaluation mode even after `net.train()`: with
    `requires_grad=False` alone, its batch-norm statistics would follow the new data.
    """
    net.frozen = frozenset(frozen)
    for name, modules in parts(net).items():
        modules.requires_grad_(name not in net.frozen)
    net.train(net.training)
