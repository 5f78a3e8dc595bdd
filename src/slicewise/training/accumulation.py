"""Batches whose gradients are added up before a step."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AccumulationGroups:
    """The batches of an epoch in groups of `accumulate`; the last group may be smaller."""

    num_batches: int
    accumulate: int

    def __len__(self) -> int:
        """Steps in an epoch."""
        return -(-self.num_batches // self.accumulate)

    def size(self, iteration: int) -> int:
        """Return how many batches share the step of batch `iteration`."""
        first = iteration - iteration % self.accumulate
        return min(self.accumulate, self.num_batches - first)

    def is_last(self, iteration: int) -> bool:
        """Whether a step follows batch `iteration`."""
        return (iteration + 1) % self.accumulate == 0 or iteration + 1 == self.num_batches
