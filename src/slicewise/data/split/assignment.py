"""The subset of each patient, and the share of each subset that a mode uses.

Both follow from an order of the groups that a hash decides: the order of the files does not matter, and a
smaller selection is always part of a larger one.
"""

import hashlib
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Final, Literal

from slicewise.config.schema import SplitFractions
from slicewise.core.errors import SplitError

Subset = Literal["train", "val", "test"]
SUBSETS: Final[tuple[Subset, ...]] = ("train", "val", "test")

_MIN_GROUPS: Final[Mapping[Subset, int]] = {"train": 1, "val": 2, "test": 2}
"""Smallest selection from a subset that has as many: one patient gives no interval."""


def assign_subsets(
    groups: Iterable[str], fractions: SplitFractions, seed: int, strata: Mapping[str, str] | None = None
) -> dict[str, Subset]:
    """Return the subset of each group, by the fractions (largest remainder), at least one group in each.

    Args:
        groups: all known groups of one source, including those not on disk yet.
        fractions: shares of train, val and test.
        seed: another seed is another split.
        strata: class of each group; each subset has each class in its share, give or take one group.

    Raises:
        SplitError: fewer than three groups.
    """
    ordered = rank_groups(groups, seed, strata)
    counts = subset_sizes(len(ordered), fractions)
    subsets = [subset for subset in SUBSETS for _ in range(counts[subset])]
    return dict(zip(ordered, subsets, strict=True))


def assign_fold(
    groups: Iterable[str], fractions: SplitFractions, seed: int, strata: Mapping[str, str] | None = None
) -> dict[str, Subset]:
    """Return the subset of each group in fold `fractions.fold` of `fractions.folds`.

    Every group is in test in exactly one fold. Val takes its share of the others, at least one, and different
    ones in each fold. The arguments are those of `assign_subsets`.

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
    num_val = max(1, round(len(rest) * fractions.val / (fractions.train + fractions.val)))
    subsets: dict[str, Subset] = dict.fromkeys(tested, "test")
    subsets.update(dict.fromkeys(rotated[:num_val], "val"))
    subsets.update(dict.fromkeys(rotated[num_val:], "train"))
    return subsets


def draw_val(
    groups: Iterable[str], fractions: SplitFractions, seed: int, strata: Mapping[str, str] | None = None
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
    count = round(len(ordered) * fractions.val / (fractions.train + fractions.val))
    return frozenset(ordered[: min(max(1, count), len(ordered) - 1)])


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
    strata: Mapping[str, str] | None = None,
    whole: Collection[Subset] = (),
) -> frozenset[str]:
    """Return a share of the groups, the same of every subset; a smaller choice is part of a larger one.

    Val and test keep at least two groups where they have two.

    Args:
        subsets: as `assign_subsets` returns them.
        fraction: share of all groups, 0 to 1.
        floor: smallest number of groups, where there are as many.
        seed: of the order in which groups are taken.
        strata: class of each group, kept in proportion.
        whole: subsets that are taken whole; `fraction` and `floor` apply to the others.
    """
    chosen = {group for group, subset in subsets.items() if subset in whole}
    num_shared = len(subsets) - len(chosen)
    total = min(num_shared, max(floor, math.ceil(fraction * num_shared - 1e-9)))
    for subset in (subset for subset in SUBSETS if subset not in whole):
        members = rank_groups(
            (group for group, member_subset in subsets.items() if member_subset == subset), seed, strata
        )
        share = -(-len(members) * total // max(num_shared, 1))
        chosen.update(members[: max(share, _MIN_GROUPS[subset])])
    return frozenset(chosen)


def rank_groups(groups: Iterable[str], seed: int, strata: Mapping[str, str] | None = None) -> list[str]:
    """Return the groups in an order that depends only on their names and the seed.

    With strata, the classes are interleaved: any start of the list holds each in proportion.

    Raises:
        ValueError: a group has no class.
    """
    unique = set(groups)
    unclassed = sorted(unique - strata.keys()) if strata is not None else []
    if unclassed:
        raise ValueError(
            f"no class is given for {unclassed[0]!r}; a later one would move it to another subset"
        )
    members: dict[str, list[tuple[str, str]]] = {}
    for group in unique:
        stratum = strata[group] if strata is not None else ""
        rank = hashlib.sha256(f"{seed}/{group}".encode()).hexdigest()
        members.setdefault(stratum, []).append((rank, group))
    places = [
        ((position + 0.5) / len(ordered), stratum, group)
        for stratum, ordered in members.items()
        for position, (_, group) in enumerate(sorted(ordered))
    ]
    return [group for _, _, group in sorted(places)]
