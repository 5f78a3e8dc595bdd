"""The split: disjoint sets of patients for training, model selection (val) and the final test."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from slicewise.config.schema import SplitFractions
from slicewise.core.errors import SplitError
from slicewise.data.split.assignment import SUBSETS, Subset

GroupKey = tuple[str, str]
"""(source, group)"""

_SHOWN = 5
_FRACTION_KEYS = set(SplitFractions.model_fields) - {"seed"}


@dataclass(frozen=True)
class Split:
    """Three disjoint sets of (source, group), none of them empty for any source that is not in train alone.

    Raises:
        SplitError: a group is in two subsets, or a subset of a source is empty.
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
                names = ", ".join("/".join(member) for member in shared[:_SHOWN])
                more = f" and {len(shared) - _SHOWN} more" if len(shared) > _SHOWN else ""
                raise SplitError(
                    f"{len(shared)} patients are in both {first} and {second}: {names}{more}; move the split "
                    "aside and run again"
                )
        for subset in SUBSETS:
            self._require_members(subset)

    @classmethod
    def of(
        cls,
        subsets: Mapping[str, Mapping[str, Subset]],
        seed: int | None = None,
        fractions: SplitFractions | None = None,
    ) -> Self:
        """Return the split in which each source has these subsets by group."""
        members: dict[Subset, list[GroupKey]] = {subset: [] for subset in SUBSETS}
        for source, table in subsets.items():
            for group, subset in table.items():
                members[subset].append((source, group))
        train, val, test = (frozenset(members[subset]) for subset in SUBSETS)
        return cls(train, val, test, seed, fractions)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Return the split that `to_json` wrote.

        Raises:
            SplitError: the value is no split, or its subsets overlap.
        """
        try:
            train, val, test = (
                frozenset(
                    (source, group) for source, table in value["sources"].items() for group in table[subset]
                )
                for subset in SUBSETS
            )
            seed, fractions = value["seed"], value["fractions"]
            settings = None if fractions is None else SplitFractions(seed=seed, **fractions)
            return cls(train, val, test, seed, settings)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise SplitError(f"the split file is damaged ({error!r}); move it aside and run again") from error

    def to_json(self) -> dict[str, Any]:
        """Return a readable table: sorted groups and their number by source and subset."""
        sources = {source: {name: self.groups(source, name) for name in SUBSETS} for source in self.sources}
        return {
            "seed": self.seed,
            "fractions": None
            if self.fractions is None
            else self.fractions.model_dump(include=_FRACTION_KEYS),
            "counts": {
                source: {name: len(groups) for name, groups in table.items()}
                for source, table in sources.items()
            },
            "sources": sources,
        }

    @property
    def sources(self) -> list[str]:
        """The sources, sorted."""
        return sorted({source for source, _ in self.train | self.val | self.test})

    def subset(self, name: Subset) -> frozenset[GroupKey]:
        """Return the members of a subset."""
        members: frozenset[GroupKey] = getattr(self, name)
        return members

    def groups(self, source: str, name: Subset) -> list[str]:
        """Return one source's groups in a subset, sorted."""
        return sorted(group for member_source, group in self.subset(name) if member_source == source)

    def keep(self, present: Iterable[GroupKey]) -> Self:
        """Return the split with only the given members, each in its subset.

        Raises:
            SplitError: a subset of a source would be empty.
        """
        kept = frozenset(present)
        return type(self)(self.train & kept, self.val & kept, self.test & kept, self.seed, self.fractions)

    def _require_members(self, name: Subset) -> None:
        tested = sorted({source for source, _ in self.val | self.test})
        required = self.sources if name == "train" else tested
        missing = [source for source in required or ["any source"] if not self.groups(source, name)]
        if missing:
            counts = "; ".join(
                f"{source}: {', '.join(f'{len(self.groups(source, each))} {each}' for each in SUBSETS)}"
                for source in missing
            )
            raise SplitError(
                f"no patient of {', '.join(missing)} is left for {name} ({counts}); add data, or raise "
                "scale.fraction, scale.min_patients or scale.min_pictures; problems.txt in data/index and "
                "data/processed says what was left out"
            )
