"""The split: who trains, who chooses the checkpoint, and who is never looked at before the end."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from slicewise.config.schema import SplitFractions
from slicewise.core.errors import SplitError
from slicewise.data.split.assignment import SUBSETS, Subset

GroupKey = tuple[str, str]
"""(source, group)"""

_SHOWN = 5
_SHARES = set(SplitFractions.model_fields) - {"seed"}
"""Of the configuration's section; where a given split came from is for the step to say."""


@dataclass(frozen=True)
class Split:
    """Three disjoint sets of (source, group), none of them empty for any source.

    Raises:
        SplitError: a group is on two sides, or a source has none on one of them.
    """

    train: frozenset[GroupKey]
    val: frozenset[GroupKey]
    test: frozenset[GroupKey]
    seed: int | None = None
    fractions: SplitFractions | None = None

    def __post_init__(self) -> None:
        for first, second in (("train", "val"), ("train", "test"), ("val", "test")):
            shared = sorted(getattr(self, first) & getattr(self, second))
            if shared:
                raise SplitError(
                    f"{len(shared)} patients are on both {first} and {second}: {_names(shared)}; "
                    "move the split aside and run again"
                )
        for side in SUBSETS:
            self._require_members(side)

    @classmethod
    def of(
        cls,
        sides: Mapping[str, Mapping[str, Subset]],
        seed: int | None = None,
        fractions: SplitFractions | None = None,
    ) -> Self:
        """Build the split from the sides of each source's groups."""
        members = {
            side: frozenset(
                (source, group)
                for source, table in sides.items()
                for group, own in table.items()
                if own == side
            )
            for side in SUBSETS
        }
        return cls(members["train"], members["val"], members["test"], seed, fractions)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            SplitError: it is not a split, or one that leaks.
        """
        try:
            members = {
                side: frozenset(
                    (source, group) for source, table in value["sources"].items() for group in table[side]
                )
                for side in SUBSETS
            }
            seed, fractions = value["seed"], value["fractions"]
            settings = None if fractions is None else SplitFractions(seed=seed, **fractions)
            return cls(members["train"], members["val"], members["test"], seed, settings)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise SplitError(f"the split file is damaged ({error!r}); move it aside and run again") from error

    def to_json(self) -> dict[str, Any]:
        """Return a readable table: per source and side the sorted groups, and how many there are."""
        sources = {source: {side: self.groups(source, side) for side in SUBSETS} for source in self.sources}
        return {
            "seed": self.seed,
            "fractions": None if self.fractions is None else self.fractions.model_dump(include=_SHARES),
            "counts": {
                source: {side: len(groups) for side, groups in table.items()}
                for source, table in sources.items()
            },
            "sources": sources,
        }

    @property
    def sources(self) -> list[str]:
        """The sources, sorted."""
        return sorted({source for source, _ in self.train | self.val | self.test})

    def side(self, side: Subset) -> frozenset[GroupKey]:
        """Return the members of one side."""
        members: frozenset[GroupKey] = getattr(self, side)
        return members

    def groups(self, source: str, side: Subset) -> list[str]:
        """Return one source's groups on one side, sorted."""
        return sorted(group for member_source, group in self.side(side) if member_source == source)

    def keep(self, present: Iterable[GroupKey]) -> Self:
        """Return the split with only the members given; nobody changes side.

        Raises:
            SplitError: a side of a source would be empty.
        """
        members_left = frozenset(present)
        return type(self)(
            self.train & members_left,
            self.val & members_left,
            self.test & members_left,
            self.seed,
            self.fractions,
        )

    def _require_members(self, side: Subset) -> None:
        sources = self.sources or ["any source"]
        missing = [source for source in sources if not self.groups(source, side)]
        if missing:
            left = "; ".join(f"{source}: {self._counts(source)}" for source in missing)
            raise SplitError(
                f"no patient of {', '.join(missing)} is left for {side} ({left}); add data, or raise "
                "scale.fraction, scale.min_patients or scale.min_pictures; problems.txt in data/index and "
                "data/processed says what was left out"
            )

    def _counts(self, source: str) -> str:
        return ", ".join(f"{len(self.groups(source, side))} {side}" for side in SUBSETS)


def _names(members: list[GroupKey]) -> str:
    shown = ", ".join("/".join(member) for member in members[:_SHOWN])
    return shown if len(members) <= _SHOWN else f"{shown} and {len(members) - _SHOWN} more"
