"""What a model carries along about its training cases: who they were, as hashes, and how they looked."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Self

SKULL_SHARE: Final = "cases with a skull"
"""Among `Appearance.shares`"""
_DIGITS: Final = 16
_NOTABLE_SHARE: Final = 0.2
"""Smallest difference of two shares that is notable"""

Range = tuple[float, float, float]
"""The 5th percentile, the median and the 95th percentile over cases"""


@dataclass(frozen=True)
class KnownPatients:
    """Salted hashes of the training and validation patients: a guess can be checked, no name can be read.

    The salt is that of one model, so that the hashes of two models have nothing in common.
    """

    salt: str
    names: tuple[str, ...]
    """Of patients, whatever the case of their letters; not of pictures, which name no patient"""
    contents: tuple[str, ...]
    """Of the prepared images of each case"""

    @classmethod
    def of(cls, salt: str, names: Iterable[str], contents: Iterable[str]) -> Self:
        hashes = ({_hash(salt, text) for text in texts} for texts in (map(str.casefold, names), contents))
        return cls(salt, *(tuple(sorted(each)) for each in hashes))

    def has_name(self, name: str) -> bool:
        return _hash(self.salt, name.casefold()) in self.names

    def has_content(self, content: str) -> bool:
        return _hash(self.salt, content) in self.contents


def _hash(salt: str, text: str) -> str:
    return hashlib.sha256(f"{salt}\n{text}".encode()).hexdigest()[:_DIGITS]


@dataclass(frozen=True)
class Appearance:
    """How the cases of one kind (volumes, or pictures) look; numbers and shares by what they describe."""

    num_cases: int
    ranges: Mapping[str, Range] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingReference:
    """The training and validation cases of a model."""

    patients: tuple[KnownPatients, ...]
    """Those of the run; and those of the model that it began with, where they are others"""
    appearance: Mapping[str, Appearance]
    """By `volume` and `picture`"""

    def names_of(self, names: Collection[str]) -> set[str]:
        """Return the names that patients of the training have."""
        return {name for name in names if any(each.has_name(name) for each in self.patients)}

    def contents_of(self, contents: Collection[str]) -> set[str]:
        """Return the images that were trained on, named by their SHA-256."""
        return {content for content in contents if any(each.has_content(content) for each in self.patients)}


@dataclass(frozen=True, slots=True)
class Difference:
    """One property of the tested cases beside that of the training cases."""

    kind: str
    """volume or picture"""
    what: str
    training: str
    tested: str
    outside: float | None
    """Share of the tested cases that lie outside the 5th to 95th percentile of training; None for a share"""
    notable: bool
    """More than half of the cases outside; two shares that differ by 0.2 or more"""

    def describe(self) -> str:
        """Return the difference as a line."""
        outside = "" if self.outside is None else f"; {self.outside:.0%} of the cases are outside"
        return f"{self.kind}s, {self.what}: {self.tested}, training {self.training}{outside}"


def differences(
    kind: str, training: Appearance, tested: Appearance, values: Mapping[str, list[float]]
) -> list[Difference]:
    """Return the properties of tested cases of one kind beside those of training; `values` by property."""
    rows = []
    for what, (low, median, high) in training.ranges.items():
        own = values.get(what, [])
        outside = sum(not low <= value <= high for value in own) / len(own) if own else None
        rows.append(
            Difference(
                *(kind, what, _range_text((low, median, high)), _range_text(tested.ranges.get(what))),
                *(outside, outside is None or outside > 0.5),
            )
        )
    for what, share in training.shares.items():
        other = tested.shares.get(what, 0.0)
        rows.append(
            Difference(kind, what, f"{share:.0%}", f"{other:.0%}", None, abs(share - other) >= _NOTABLE_SHARE)
        )
    return rows


def _range_text(numbers: Range | None) -> str:
    if numbers is None:
        return "–"
    low, median, high = (f"{number:.4g}" for number in numbers)
    return median if low == high else f"{median} ({low} to {high})"
