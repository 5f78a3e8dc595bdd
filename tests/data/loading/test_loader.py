import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from slicewise.data.loading.dataset import SliceDataset
from slicewise.data.loading.loader import TrainLoader, load_batches, prefetch, sequential_batches
from slicewise.domain.keys import CaseKey


class Case:
    key = CaseKey("made", "P0", "c")
    stored_images = np.arange(10, dtype=np.float16).reshape(10, 1, 1, 1) * np.ones((1, 1, 4, 4), np.float16)
    masks = np.zeros((10, 4, 4), np.uint8)
    labels = np.zeros(10, np.int8)
    included = train = np.arange(10) != 3
    presence = (True, False, False, False)
    has_mask = True
    image_size = 4
    group = "P0"


CASE: Any = Case()  # a stand-in for StoredCase


@pytest.fixture
def batches() -> TrainLoader:
    weights = {"volumes": 1.0, "pictures": 0.0}
    return TrainLoader(
        SliceDataset({"volumes": [CASE]}), weights, batch_size=3, iterations=0, key=(0, "joint")
    )


def test_iteration_can_start_at_any_batch(batches: TrainLoader) -> None:
    whole = [batch.images for batch in batches.iterate(epoch=1)]
    rest = [batch.images for batch in batches.iterate(epoch=1, start=2)]

    assert len(whole) == len(batches) == 3
    assert len(rest) == 1
    assert torch.equal(rest[0], whole[2])


def test_only_slices_marked_for_training_come(batches: TrainLoader) -> None:
    seen = torch.cat([batch.images[:, 0, 0, 0] for batch in batches.iterate(epoch=0)])

    assert sorted(seen.tolist()) == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_evaluation_reads_every_slice_in_order() -> None:
    dataset = SliceDataset({"volumes": [CASE]})
    seen = torch.cat(
        [batch.images[:, 0, 0, 0] for batch in load_batches(dataset, sequential_batches(dataset, 4))]
    )

    assert seen.tolist() == list(range(10))


@pytest.mark.parametrize(("preload_mib", "in_thread"), [(1, False), (0, True)])
def test_slices_in_memory_are_gathered_without_a_thread(preload_mib: float, in_thread: bool) -> None:
    dataset = SliceDataset({"volumes": [CASE]}, preload_mib=preload_mib)
    batches = load_batches(dataset, sequential_batches(dataset, 4))
    next(batches)

    assert (workers() > 0) == in_thread
    assert sum(len(batch) for batch in batches) == 6


def workers() -> int:
    return sum(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_items_come_in_order_and_the_thread_ends() -> None:
    assert list(prefetch(range(20))) == list(range(20))
    assert workers() == 0


def test_the_next_item_is_made_while_the_last_one_is_used() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in range(5):
            made.append(number)
            yield number

    stream = prefetch(items(), depth=2)
    assert next(stream) == 0
    deadline = time.monotonic() + 5
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)

    assert made == [0, 1, 2]
    stream.close()  # type: ignore[attr-defined]


def test_an_error_is_raised_at_its_place() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("damaged")

    stream = prefetch(items())

    assert next(stream) == 1
    with pytest.raises(ValueError, match="damaged"):
        next(stream)
    assert workers() == 0


def test_a_consumer_that_stops_early_stops_the_thread() -> None:
    for number in prefetch(range(10**9)):
        if number == 3:
            break

    deadline = time.monotonic() + 5
    while workers() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert workers() == 0
