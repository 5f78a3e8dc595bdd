import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.config.schema import SplitFractions
from slicewise.core.errors import SplitError
from slicewise.data.split.assignment import (
    SUBSETS,
    Subset,
    assign_fold,
    assign_subsets,
    rank_groups,
    select_groups,
    subset_sizes,
)

SHARES = SplitFractions(seed=0, train=0.7, val=0.15, test=0.15, folds=0, fold=0)
GROUPS = st.sets(st.text("abcxyz0123_", min_size=1, max_size=6), min_size=3, max_size=120)


@pytest.mark.parametrize(
    ("total", "counts"),
    [
        (3, (1, 1, 1)),
        (4, (2, 1, 1)),
        (6, (4, 1, 1)),
        (20, (14, 3, 3)),
        (100, (70, 15, 15)),
        (369, (258, 56, 55)),
    ],
)
def test_counts_are_exact(total: int, counts: tuple[int, int, int]) -> None:
    assert tuple(subset_sizes(total, SHARES).values()) == counts


def test_no_side_is_ever_empty() -> None:
    lopsided = SHARES.model_copy(update={"train": 0.98, "val": 0.01, "test": 0.01})
    assert tuple(subset_sizes(5, lopsided).values()) == (3, 1, 1)


@pytest.mark.parametrize("groups", [[], ["a"], ["a", "b"]])
def test_too_few_patients_are_counted_and_the_way_out_named(groups: list[str]) -> None:
    with pytest.raises(SplitError, match=f"too few patients: {len(groups)} found.*data=phantom"):
        assign_subsets(groups, SHARES, 0)


@given(groups=GROUPS, seed=st.integers(0, 5), data=st.data())
def test_the_order_of_the_files_does_not_matter(groups: set[str], seed: int, data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(sorted(groups)))
    strata = {group: str(len(group) % 2) for group in groups}
    assert assign_subsets(shuffled, SHARES, seed, strata) == assign_subsets(
        sorted(groups), SHARES, seed, strata
    )


@given(groups=GROUPS, small=st.floats(0.01, 1), large=st.floats(0.01, 1), floor=st.integers(1, 40))
def test_a_smaller_mode_is_part_of_a_larger_one(
    groups: set[str], small: float, large: float, floor: int
) -> None:
    small, large = sorted((small, large))
    sides = assign_subsets(groups, SHARES, 7)
    few, many = select_groups(sides, small, floor), select_groups(sides, large, floor)
    assert few <= many
    assert few <= select_groups(sides, small, floor + 5)
    for side in SUBSETS:
        available = sum(its == side for its in sides.values())
        taken = sum(sides[group] == side for group in few)
        assert taken >= (1 if side == "train" else min(2, available))
    assert len(few) >= min(floor, len(groups))


def test_a_selection_keeps_the_shares_of_the_sides() -> None:
    sides = assign_subsets((f"p{number}" for number in range(200)), SHARES, 1)
    chosen = select_groups(sides, 0.3, 10)
    assert {side: sum(sides[group] == side for group in chosen) for side in SUBSETS} == {
        "train": 42,
        "val": 9,
        "test": 9,
    }
    assert select_groups(sides, 1.0, 1) == set(sides)


@given(groups=GROUPS, number=st.integers(1, 150))
def test_a_number_of_patients_is_kept_to_and_a_smaller_one_is_part_of_a_larger(
    groups: set[str], number: int
) -> None:
    sides = assign_subsets(groups, SHARES, 7)
    few, many = (select_groups(sides, 1.0, 90, number=each) for each in (number, number + 1))
    assert few <= many
    smallest = sum(min(sum(its == side for its in sides.values()), 1 + (side != "train")) for side in SUBSETS)
    assert len(few) == min(len(groups), max(number, smallest))


def test_a_number_of_patients_has_the_shares_of_the_sides() -> None:
    sides = assign_subsets((f"p{number}" for number in range(480)), SHARES, 1)
    chosen = [sides[group] for group in select_groups(sides, 0.05, 24, number=50)]
    assert [chosen.count(side) for side in SUBSETS] == [35, 8, 7]
    chosen = [sides[group] for group in select_groups(sides, 1.0, 1, whole=["test"], number=50)]
    assert [chosen.count(side) for side in SUBSETS] == [41, 9, 72]


def test_a_selection_does_not_depend_on_how_the_sides_are_listed() -> None:
    sides = assign_subsets((f"p{number}" for number in range(50)), SHARES, 1)
    backwards = dict(sorted(sides.items(), reverse=True))
    assert select_groups(sides, 0.2, 5, seed=3) == select_groups(backwards, 0.2, 5, seed=3)


@given(num_yes=st.integers(2, 60), num_no=st.integers(2, 60))
def test_every_side_has_each_class_in_its_share(num_yes: int, num_no: int) -> None:
    strata = {f"y{number}": "yes" for number in range(num_yes)} | {
        f"n{number}": "no" for number in range(num_no)
    }
    sides = assign_subsets(strata, SHARES, 0, strata)
    share = num_yes / len(strata)
    for side in SUBSETS:
        members = [group for group, its in sides.items() if its == side]
        num_of_class = sum(strata[group] == "yes" for group in members)
        assert abs(num_of_class - share * len(members)) <= 2
    whole = select_groups(sides, 0.5, 4, strata=strata)
    assert abs(sum(strata[group] == "yes" for group in whole) - share * len(whole)) <= 5


def test_another_seed_is_another_split() -> None:
    groups = [f"p{number}" for number in range(40)]
    assert assign_subsets(groups, SHARES, 0) != assign_subsets(groups, SHARES, 1)


def test_the_order_is_pinned() -> None:
    """A change here moves patients between train and test of every user: never change it."""
    assert rank_groups(["a", "b", "c", "d", "e"], 0) == list("cbeda")
    assert rank_groups(["a", "b", "c", "d", "e"], 0, dict(zip("abcde", "xxyyy", strict=True))) == list(
        "cbead"
    )


def test_a_group_without_a_class_is_refused() -> None:
    with pytest.raises(ValueError, match="no class is given for 'b'"):
        rank_groups(["a", "b"], 0, {"a": "yes"})


def folds_of(groups: set[str], folds: int, strata: dict[str, str] | None = None) -> list[dict[str, Subset]]:
    return [
        assign_fold(groups, SHARES.model_copy(update={"folds": folds, "fold": fold}), 0, strata)
        for fold in range(1, folds + 1)
    ]


@given(groups=GROUPS, folds=st.integers(2, 6))
def test_everyone_is_tested_in_exactly_one_fold(groups: set[str], folds: int) -> None:
    if len(groups) < max(folds, 3):
        with pytest.raises(SplitError, match=f"too few patients: {len(groups)} found for {folds} folds"):
            folds_of(groups, folds)
        return
    sides = folds_of(groups, folds)
    for group in groups:
        assert [fold[group] for fold in sides].count("test") == 1
    for fold in sides:
        assert fold.keys() == groups
        counts = [list(fold.values()).count(side) for side in SUBSETS]
        assert min(counts) >= 1 or len(groups) == 3
        assert abs(counts[2] - len(groups) / folds) < 1


def test_folds_differ_in_who_chooses_the_checkpoint() -> None:
    groups = {f"p{number}" for number in range(50)}
    chosen = [frozenset(name for name, side in fold.items() if side == "val") for fold in folds_of(groups, 5)]
    assert len(set(chosen)) == 5
    assert {len(fold) for fold in chosen} == {7}  # 40 * 0.15 / 0.85


def test_every_fold_has_each_class_in_its_share() -> None:
    strata = {f"p{number}": "yes" if number % 5 else "no" for number in range(100)}
    for fold in folds_of(set(strata), 5, strata):
        for side in SUBSETS:
            members = [name for name, its_side in fold.items() if its_side == side]
            num_healthy = sum(strata[name] == "no" for name in members)
            assert abs(num_healthy - 0.2 * len(members)) <= 1.5


def test_a_side_that_is_taken_whole_is_no_part_of_the_share() -> None:
    sides: dict[str, Subset] = {f"p{number}": "test" if number < 30 else "train" for number in range(100)}
    sides |= {f"p{number}": "val" for number in range(90, 100)}
    chosen = select_groups(sides, 0.1, 1, whole=["test"])
    counts = {side: sum(sides[group] == side for group in chosen) for side in SUBSETS}
    assert counts == {"train": 6, "val": 2, "test": 30}
