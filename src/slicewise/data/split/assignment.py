"""The split: the subset of each patient, and the share of each subset that a mode uses.

Both follow from an order of the groups that a hash decides: the order of the files does not matter, and a
smaller selection is always part of a larger one. `groups` are all known groups of one source, including those
not on disk yet; `strata` is the class of each group, of which each subset has its share.
"""

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final, Literal, Self

from slicewise.config.schema import SplitFractions
from slicewise.core.errors import SplitError

Subset = Literal["train", "val", "test"]
SUBSETS: Final[tuple[Subset, ...]] = ("train", "val", "test")
Strata = Mapping[str, str] | None
GroupKey = tuple[str, str]
"""(source, group)"""

_MIN_GROUPS: Final[Mapping[Subset, int]] = {"train": 1, "val": 2, "test": 2}
"""Smallest selection from a subset that has as many: one patient gives no interval."""
_SHOWN: Final = 5


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
        for first, second in combinations(SUBSETS, 2):
            if shared := sorted(self.subset(first) & self.subset(second)):
                names = ", ".join("/".join(member) for member in shared[:_SHOWN])
                more = f" and {len(shared) - _SHOWN} more" if len(shared) > _SHOWN else ""
                raise SplitError(
                    f"{len(shared)} patients are in both {first} and {second}: {names}{more}; move the split "
                    "aside and run again"
                )
        tested = sorted({source for source, _ in self.val | self.test})
        for subset in SUBSETS:
            required = self.sources if subset == "train" else tested
            missing = [source for source in required or ["any source"] if not self.groups(source, subset)]
            if missing:
                counts = "; ".join(
                    f"{source}: {', '.join(f'{len(self.groups(source, each))} {each}' for each in SUBSETS)}"
                    for source in missing
                )
                raise SplitError(
                    f"no patient of {', '.join(missing)} is left for {subset} ({counts}); add data, or use "
                    "more of them (--num-patients, --num-images or scale.fraction); problems.txt in "
                    "data/index and data/processed says what was left out"
                )

    @classmethod
    def of(
        cls,
        subsets: Mapping[str, Mapping[str, Subset]],
        seed: int | None = None,
        fractions: SplitFractions | None = None,
    ) -> Self:
        """Return the split in which each source has these subsets by group."""
        members: dict[Subset, set[GroupKey]] = defaultdict(set)
        for source, table in subsets.items():
            for group, subset in table.items():
                members[subset].add((source, group))
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
        tables = {source: {name: self.groups(source, name) for name in SUBSETS} for source in self.sources}
        shares = {*SplitFractions.model_fields} - {"seed"}
        return {
            "seed": self.seed,
            "fractions": None if self.fractions is None else self.fractions.model_dump(include=shares),
            "counts": {
                source: {name: len(groups) for name, groups in table.items()}
                for source, table in tables.items()
            },
            "sources": tables,
        }

    @property
    def sources(self) -> list[str]:
        """The sources, sorted."""
        return sorted({source for source, _ in self.train | self.val | self.test})

    def subset(self, name: Subset) -> frozenset[GroupKey]:
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


def assign_subsets(
    groups: Iterable[str], fractions: SplitFractions, seed: int, strata: Strata = None
) -> dict[str, Subset]:
    """Return the subset of each group, by the fractions (largest remainder), at least one group in each.

    Raises:
        SplitError: fewer than three groups.
    """
    ordered = rank_groups(groups, seed, strata)
    counts = subset_sizes(len(ordered), fractions)
    subsets = [subset for subset in SUBSETS for _ in range(counts[subset])]
    return dict(zip(ordered, subsets, strict=True))


def assign_fold(
    groups: Iterable[str], fractions: SplitFractions, seed: int, strata: Strata = None
) -> dict[str, Subset]:
    """Return the subset of each group in fold `fractions.fold` of `fractions.folds`.

    Every group is in test in exactly one fold. Val takes its share of the others, at least one, and different
    ones in each fold.

    Raises:
        SplitError: fewer groups than folds, or none left to train on.
    """
    # One class after the other: every n-th of the interleaved order could give a fold a single class.
    ordered = sorted(rank_groups(groups, seed, strata), key=lambda group: strata[group] if strata else "")
    folds, place = fractions.folds, fractions.fold - 1
    if len(ordered) < max(folds, len(SUBSETS)):
        raise SplitError(
            f"too few patients: {len(ordered)} found for {folds} folds; lower --folds or add data"
        )
    tested = ordered[place::folds]
    rest = rank_groups(set(ordered) - set(tested), seed, strata)
    start = place * len(rest) // folds
    rotated = rest[start:] + rest[:start]
    num_val = _num_val(len(rest), fractions)
    return {
        **dict.fromkeys(tested, "test"),
        **dict.fromkeys(rotated[:num_val], "val"),
        **dict.fromkeys(rotated[num_val:], "train"),
    }


def draw_val(
    groups: Iterable[str], fractions: SplitFractions, seed: int, strata: Strata = None
) -> frozenset[str]:
    """Return the val groups, drawn from those to train on in the ratio of the fractions, at least one.

    Raises:
        SplitError: fewer than two groups.
    """
    ordered = rank_groups(groups, seed, strata)
    if len(ordered) < 2:
        raise SplitError(
            "the given split names no patient for val and fewer than two for train; name a patient for val"
        )
    return frozenset(ordered[: min(_num_val(len(ordered), fractions), len(ordered) - 1)])


def _num_val(num_groups: int, fractions: SplitFractions) -> int:
    return max(1, round(num_groups * fractions.val / (fractions.train + fractions.val)))


def subset_sizes(num_groups: int, fractions: SplitFractions) -> dict[Subset, int]:
    """Return the number of groups in each subset (Hamilton's largest remainder, at least 1).

    Raises:
        SplitError: fewer than three groups.
    """
    if num_groups < len(SUBSETS):
        raise SplitError(
            f"too few patients: {num_groups} found, and train, val and test need one each; "
            "add data, or use another data set (data=phantom generates patients)"
        )
    shares = {subset: getattr(fractions, subset) * num_groups for subset in SUBSETS}
    counts = {subset: math.floor(share + 1e-9) for subset, share in shares.items()}
    by_remainder = sorted(SUBSETS, key=lambda subset: counts[subset] - shares[subset])
    for subset in by_remainder[: num_groups - sum(counts.values())]:
        counts[subset] += 1
    for subset in SUBSETS:
        if not counts[subset]:
            counts[max(SUBSETS, key=lambda other: counts[other])] -= 1
            counts[subset] = 1
    return counts


def select_groups(
    subsets: Mapping[str, Subset],
    fraction: float,
    floor: int,
    seed: int = 0,
    strata: Strata = None,
    whole: Collection[Subset] = (),
    number: int | None = None,
) -> frozenset[str]:
    """Return a share of the groups, the same of every subset; a smaller choice is part of a larger one.

    Val and test keep at least two groups where they have two. The share is `fraction` of all groups, but not
    fewer than `floor`; or it is `number` groups. The subsets in `whole` are taken whole, and the share is one
    of the others.
    """
    members: dict[Subset, list[str]] = defaultdict(list)
    for group, subset in subsets.items():
        members[subset].append(group)
    num_shared = sum(len(members[subset]) for subset in SUBSETS if subset not in whole)
    total = min(num_shared, max(floor, math.ceil(fraction * num_shared - 1e-9)))
    chosen: set[str] = set()
    apportioned = _apportion({each: len(members[each]) for each in SUBSETS if each not in whole}, number or 0)
    for subset, groups in members.items():
        share = apportioned[subset] if number else -(-len(groups) * total // max(num_shared, 1))
        count = len(groups) if subset in whole else max(share, _MIN_GROUPS[subset])
        chosen.update(rank_groups(groups, seed, strata)[:count])
    return frozenset(chosen)


def _apportion(sizes: Mapping[Subset, int], number: int) -> Counter[Subset]:
    """Return how many of `number` groups each subset has, by Webster's method behind the smallest selection.

    Its shares never shrink as the number grows.
    """
    places = [
        ((position + 0.5) / size if position >= _MIN_GROUPS[subset] else 0.0, subset)
        for subset, size in sizes.items()
        for position in range(size)
    ]
    return Counter(subset for _, subset in sorted(places, key=lambda place: place[0])[:number])


def rank_groups(groups: Iterable[str], seed: int, strata: Strata = None) -> list[str]:
    """Return the groups in an order that depends only on their names and the seed.

    With strata, the classes are interleaved: any start of the list holds each in proportion.

    Raises:
        ValueError: a group has no class.
    """
    members: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for group in set(groups):
        if strata is not None and group not in strata:
            raise ValueError(f"no class is given for {group!r}; a later one would move it to another subset")
        rank = hashlib.sha256(f"{seed}/{group}".encode()).hexdigest()
        members[strata[group] if strata is not None else ""].append((rank, group))
    places = [
        ((position + 0.5) / len(ordered), stratum, group)
        for stratum, ordered in members.items()
        for position, (_, group) in enumerate(sorted(ordered))
    ]
    return [group for _, _, group in sorted(places)]
