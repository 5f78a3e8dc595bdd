"""Which side of the split each patient is on, and how much of each side a mode uses.

Both follow from an order of the groups that a hash decides, so nothing depends on the order in which files
were found, and a smaller selection is always part of a larger one.
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
"""What a selection leaves on each side where it has that many: one patient gives no interval."""


def assign_subsets(
    groups: Iterable[str], fractions: SplitFractions, seed: int, strata: Mapping[str, str] | None = None
) -> dict[str, Subset]:
    """Put each group on one side, in the shares given (largest remainder), at least one group on each.

    Args:
        groups: everything known of one source, including what is not on disk yet.
        fractions: shares of train, val and test.
        seed: another seed is another split.
        strata: a class for each group; every side then has each class in its share, give or take one group.

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
    """Put each group on one side for fold `fractions.fold` of `fractions.folds`.

    Every group is on the test side of exactly one fold. Of the others, val takes its share, at least one, and
    other ones in each fold. The arguments are those of `assign_subsets`.

    Raises:
        SplitError: fewer groups than folds, or none left to train on.
    """
    # One class after the other: dealing out the interleaved row could give a fold one class alone.
    everyone = sorted(rank_groups(groups, seed, strata), key=lambda group: strata[group] if strata else "")
    folds, place = fractions.folds, fractions.fold - 1
    if len(everyone) < max(folds, len(SUBSETS)):
        raise SplitError(
            f"too few patients: {len(everyone)} found for {folds} folds; lower --folds or add data"
        )
    tested = everyone[place::folds]
    rest = rank_groups(set(everyone) - set(tested), seed, strata)
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
    """Draw val from the groups to train on, in the ratio of their shares, at least one.

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
    """Return how many of `num_groups` go on each side (Hamilton's largest remainder, at least 1).

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
    """Choose a share of the groups, the same share of every side; a smaller choice is part of a larger one.

    Args:
        subsets: as `assign_subsets` returns them.
        fraction: share of all groups, 0 to 1.
        floor: at least this many groups, or all there are.
        seed: of the order in which groups are taken.
        strata: a class for each group, kept in proportion.
        whole: sides that are taken whole; the share and the floor are those of the others.

    Returns:
        Groups of every side, val and test with at least two where they have two.
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
    """Return the groups in an order that only their names and the seed decide.

    With strata, the classes are interleaved: the start of the list, however long, holds each in proportion.

    Raises:
        ValueError: a group has no class.
    """
    unique = set(groups)
    unclassed = sorted(unique - strata.keys()) if strata is not None else []
    if unclassed:
        raise ValueError(f"no class is given for {unclassed[0]!r}; a later one would move it to another side")
    members: dict[str, list[tuple[str, str]]] = {}
    for group in unique:
        stratum = strata[group] if strata is not None else ""
        members.setdefault(stratum, []).append((_rank(seed, group), group))
    places = [
        ((position + 0.5) / len(ordered), stratum, group)
        for stratum, ordered in members.items()
        for position, (_, group) in enumerate(sorted(ordered))
    ]
    return [group for _, _, group in sorted(places)]


def _rank(seed: int, group: str) -> str:
    return hashlib.sha256(f"{seed}/{group}".encode()).hexdigest()
