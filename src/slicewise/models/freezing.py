"""Frozen means frozen: no gradient, batch-norm statistics untouched, dropout off."""

from collections.abc import Iterable

from slicewise.config.schema.training import Part
from slicewise.models.multitask import PARTS, MultitaskNet, parts


def set_frozen(net: MultitaskNet, frozen: Iterable[Part]) -> None:
    """Freeze exactly the parts named and thaw the others.

    A frozen part gets no gradient and stays in evaluation mode even after `net.train()`: with
    `requires_grad=False` alone, its batch-norm statistics would follow the new data.
    """
    net.frozen = frozenset(frozen)
    for name, modules in parts(net).items():
        modules.requires_grad_(name not in net.frozen)
    net.train(net.training)


def trainable_parts(net: MultitaskNet) -> tuple[Part, ...]:
    """Return the parts that learn, in their order in the network."""
    return tuple(part for part in PARTS if part not in net.frozen)
