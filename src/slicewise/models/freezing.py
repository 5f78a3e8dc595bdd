"""Frozen means frozen: no gradient, batch-norm statistics untouched, dropout off."""

from collections.abc import Iterable

from slicewise.config.schema.training import Part
from slicewise.models.multitask import MultitaskModel, modules_by_part


def set_frozen(model: MultitaskModel, frozen: Iterable[Part], *, statistics: bool = False) -> None:
    """Freeze exactly the parts named and thaw the others.

    With `statistics` the batch norms of all parts keep, and normalise with, the statistics that they have;
    their weights learn as before.

    A frozen part gets no gradient and stays in evaluation mode even after `net.train()`: with
    `requires_grad=False` alone, its batch-norm statistics would follow the new data.
    """
    model.frozen, model.frozen_statistics = frozenset(frozen), statistics
    for name, modules in modules_by_part(model).items():
        modules.requires_grad_(name not in model.frozen)
    model.train(model.training)
