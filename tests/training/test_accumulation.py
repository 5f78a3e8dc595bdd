from slicewise.training.accumulation import AccumulationGroups


def test_the_last_group_may_be_smaller() -> None:
    groups = AccumulationGroups(num_batches=7, accumulate=3)

    assert len(groups) == 3
    assert [groups.size(iteration) for iteration in range(7)] == [3, 3, 3, 3, 3, 3, 1]
    assert [groups.is_last(iteration) for iteration in range(7)] == [
        False,
        False,
        True,
        False,
        False,
        True,
        True,
    ]


def test_without_accumulation_every_batch_is_a_step() -> None:
    groups = AccumulationGroups(num_batches=4, accumulate=1)

    assert len(groups) == 4
    assert all(groups.is_last(iteration) and groups.size(iteration) == 1 for iteration in range(4))
