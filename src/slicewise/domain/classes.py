"""The classes of a pixel or of a slice: names, whether they exclude each other, colours, decisions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
_COLOURS: Final[tuple[Colour, ...]] = (
    (230, 159, 0), (0, 158, 115), (204, 121, 167), (240, 228, 66), (0, 114, 178), (213, 94, 0),
)  # fmt: skip
"""Okabe and Ito (2008)"""


@dataclass(frozen=True)
class Classes:
    """K classes beside the background (of a pixel), or beside the first class of a slice."""

    names: tuple[str, ...]
    exclusive: bool = False
    """Whether the most probable one is decided on (softmax). A single class, and each of several that may
    overlap (sigmoid), is decided by a threshold."""
    absence: str = "background"
    """What there is where none of them is"""

    @classmethod
    def of_pixels(cls, names: Sequence[str], activation: str) -> Self:
        """Return the classes of a segmentation of this activation."""
        return cls(tuple(names), exclusive=activation == "softmax" and len(names) > 1)

    @classmethod
    def of_slices(cls, names: Sequence[str]) -> Self:
        """Return the classes of a classification; of two names the first is the absence of the other."""
        return cls(tuple(names[1:]), exclusive=len(names) > 2, absence=names[0])

    @classmethod
    def from_json(cls, content: Mapping[str, Any] | None) -> Self | None:
        """Return what `dataclasses.asdict` gave, read from JSON; None for None."""
        if content is None:
            return None
        return cls(tuple(content["names"]), content["exclusive"], content["absence"])

    def __len__(self) -> int:
        return len(self.names)

    @property
    def several(self) -> tuple[str, ...]:
        """The names where there are several: a single class has no scores and files of its own."""
        return self.names if len(self.names) > 1 else ()

    @property
    def with_absence(self) -> tuple[str, ...]:
        return (self.absence, *self.names)

    @property
    def colours(self) -> tuple[Colour, ...]:
        """Red, green and blue of each class, 0 to 255."""
        return tuple(_COLOURS[number % len(_COLOURS)] for number in range(len(self.names)))

    def decide(
        self, probability: NDArray[np.floating], thresholds: NDArray[np.floating]
    ) -> NDArray[np.bool_]:
        """Return which classes there are [S, K, ...], from their probabilities [S, K, ...].

        `thresholds` [K] are those of each class.

        Of exclusive classes it is the most probable one; none where the rest up to 1 is as probable.
        """
        if not self.exclusive:
            by_class = thresholds.astype(probability.dtype).reshape(-1, *[1] * (probability.ndim - 2))
            return np.asarray(probability >= by_class)
        absent = 1 - probability.sum(axis=1, keepdims=True)
        numbers = np.arange(len(self.names)).reshape(1, -1, *[1] * (probability.ndim - 2))
        is_first = probability.argmax(axis=1)[:, None] == numbers
        return np.asarray(is_first & (probability > absent))

    def numbers(self, masks: NDArray[np.bool_], axis: int = 0) -> NDArray[np.uint8]:
        """Return the number of the class from 1 on, 0 for none, of masks with a class along `axis`."""
        places: Sequence[int] = [-1 if place == axis else 1 for place in range(masks.ndim)]
        numbers = np.arange(1, len(self.names) + 1, dtype=np.uint8).reshape(places)
        return np.asarray((masks * numbers).max(axis=axis), np.uint8)

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of all of them as texts for people, the absence first."""
        return tuple(name.replace("_", " ") for name in self.with_absence)


TUMOUR: Final = Classes(("tumour",))
"""That of the tumour recipe, of a pixel"""
TUMOUR_OR_NOT: Final = Classes(("tumour",), absence="no_tumour")
"""Of a slice"""
