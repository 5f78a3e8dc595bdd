import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.core.errors import TrainingError
from slicewise.data.loading.dataset import SlicePool
from slicewise.data.loading.loader import EpochPlan, derive_seed, plan_epoch, sample_epoch

VOLUMES = np.arange(100, dtype=np.int64)
PICTURES = np.arange(1000, 1007, dtype=np.int64)
MIXED = {"volumes": 0.8, "pictures": 0.2}


def order(
    epoch: int, *, seed: int = 0, stage: str = "joint", plan: EpochPlan | None = None
) -> list[list[int]]:
    plan = plan or plan_epoch({"volumes": len(VOLUMES), "pictures": len(PICTURES)}, MIXED, 16)
    pools = {"volumes": SlicePool(VOLUMES), "pictures": SlicePool(PICTURES)}
    return [batch.tolist() for batch in sample_epoch(pools, plan, seed, stage, epoch)]


def test_seeds_depend_on_every_part_and_on_nothing_else() -> None:
    seeds = {derive_seed("a", 1, 2), derive_seed("a", 2, 1), derive_seed("b", 1, 2), derive_seed("a", 12)}

    assert len(seeds) == 4
    assert derive_seed("weights", 0) == 301231957038779305


def test_an_epoch_shows_every_volume_slice_once_and_keeps_the_shares() -> None:
    batches = order(0)
    flat = [index for batch in batches for index in batch]

    assert sorted(i for i in flat if i < 1000) == VOLUMES.tolist()
    assert sum(i >= 1000 for i in flat) == 25
    assert max(map(len, batches)) <= 16


def test_each_batch_has_its_share_of_pictures() -> None:
    shares = [sum(i >= 1000 for i in batch) / len(batch) for batch in order(0)]

    assert min(shares) > 0.1
    assert max(shares) < 0.3


def test_pictures_are_repeated_evenly_even_across_epochs() -> None:
    seen = np.bincount([i - 1000 for epoch in range(3) for batch in order(epoch) for i in batch if i >= 1000])

    assert seen.sum() == 75
    assert seen.max() - seen.min() <= 1


def test_the_order_depends_on_seed_stage_and_epoch_alone() -> None:
    assert order(1) == order(1)
    assert order(1) != order(2)
    assert order(1) != order(1, seed=1)
    assert order(1) != order(1, stage="cls_head")


def test_a_number_of_iterations_is_kept_and_goes_on_through_the_slices() -> None:
    plan = plan_epoch({"volumes": 100, "pictures": 7}, MIXED, 10, iterations=5)
    two = [i for epoch in range(2) for batch in order(epoch, plan=plan) for i in batch if i < 1000]

    assert plan == EpochPlan({"volumes": 40, "pictures": 10}, 5)
    assert len(set(two)) == len(two) == 80


@pytest.mark.parametrize(
    ("available", "weights", "expected"),
    [
        ((100, 0), (0.8, 0.2), (100, 0)),
        ((0, 30), (0.8, 0.2), (0, 30)),
        ((100, 30), (1.0, 0.0), (100, 0)),
        ((100, 30), (0.0, 1.0), (0, 30)),
        ((100, 30), (0.5, 0.5), (100, 100)),
        ((100, 30), (0.3, 0.1), (100, 33)),
        ((100, 0), (0.0, 1.0), (100, 0)),
    ],
)
def test_a_share_without_its_source_goes_to_the_other(
    available: tuple[int, int], weights: tuple[float, float], expected: tuple[int, int]
) -> None:
    names = ("volumes", "pictures")
    plan = plan_epoch(dict(zip(names, available, strict=True)), dict(zip(names, weights, strict=True)), 16)

    assert tuple(plan.num_slices.values()) == expected


def test_any_number_of_sources_shares_an_epoch_and_each_batch() -> None:
    pools = {
        "a": SlicePool(np.arange(60)),
        "b": SlicePool(np.arange(100, 103)),
        "c": SlicePool(np.arange(200, 240)),
    }
    counts = {name: len(pool) for name, pool in pools.items()}
    plan = plan_epoch(counts | {"gone": 0}, {"a": 0.6, "gone": 0.5, "c": 0.3, "b": 0.1}, 10)
    batches = sample_epoch(pools | {"gone": SlicePool(np.empty(0, np.int64))}, plan, 0, "joint", 0)

    assert plan == EpochPlan({"a": 60, "b": 10, "c": 30, "gone": 0}, 10)
    assert all(np.bincount(batch // 100, minlength=3).tolist() == [6, 1, 3] for batch in batches)
    assert sorted(i for batch in batches for i in batch if i < 100) == list(range(60))


@given(st.integers(2, 300), st.integers(0, 50), st.integers(2, 40), st.floats(0.05, 1))
def test_no_batch_is_too_large_or_a_single_slice(
    volumes: int, pictures: int, size: int, share: float
) -> None:
    pools = {
        "volumes": SlicePool(np.arange(volumes)),
        "pictures": SlicePool(np.arange(1000, 1000 + pictures)),
    }
    counts = {name: len(pool) for name, pool in pools.items()}
    plan = plan_epoch(counts, {"volumes": share, "pictures": 1 - share}, size)
    batches = sample_epoch(pools, plan, 0, "joint", 0)
    sizes = [len(batch) for batch in batches]

    assert len(batches) == plan.num_batches
    assert min(sizes) >= 2
    assert max(sizes) <= max(size, 3)


def test_an_epoch_without_slices_says_what_to_raise() -> None:
    with pytest.raises(TrainingError, match=r"--num-patients"):
        plan_epoch({"volumes": 1, "pictures": 0}, MIXED, 16)


def test_each_round_takes_others_of_the_slices_that_are_too_many() -> None:
    pool = SlicePool(np.array([90, 91]), ((np.arange(6), 3), (np.arange(10, 17), 2)))
    rounds = [pool.round(number).tolist() for number in range(5)]

    assert len(pool) == 7
    assert all(len(set(found)) == 7 and found[:2] == [90, 91] for found in rounds)
    assert {slice_ for found in rounds[:2] for slice_ in found if slice_ < 10} == set(range(6))
    assert {slice_ for found in rounds[:4] for slice_ in found if 10 <= slice_ < 20} == set(range(10, 17))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 300))
def test_a_round_is_evenly_spaced_and_in_time_every_slice_has_its_turn(
    size: int, count: int, number: int
) -> None:
    count = min(size, count)
    pool = SlicePool(np.empty(0, np.int64), ((np.arange(size), count),))
    around = np.sort(pool.round(number))
    gaps = np.diff(np.append(around, around[0] + size))
    turns = range(-(-size // count))

    assert len(set(around)) == count
    assert gaps.max() - gaps.min() <= 1
    assert len(set(np.concatenate([pool.round(number) for number in turns]))) == size


def test_epochs_go_on_from_round_to_round() -> None:
    pool = SlicePool(np.arange(100, 104), ((np.arange(8), 4),))
    plan = plan_epoch({"volumes": len(pool)}, {"volumes": 1.0}, 4)
    orders = [sample_epoch({"volumes": pool}, plan, 0, "joint", number) for number in range(3)]
    first, second, third = (sorted(np.concatenate(order).tolist()) for order in orders)

    assert first == [1, 3, 5, 7, 100, 101, 102, 103]
    assert second == [0, 2, 4, 6, 100, 101, 102, 103]
    assert third == first
