import threading

import numpy as np
import pytest
import torch

from slicewise.config.schema import SourceWeights
from slicewise.data.loading.dataset import SliceDataset
from slicewise.data.loading.loader import TrainLoader, load_batches, sequential_batches
from slicewise.domain.keys import CaseKey


class Case:
    key = CaseKey("made", "P0", "c")
    stored_images = np.arange(10, dtype=np.float16).reshape(10, 1, 1, 1) * np.ones((1, 1, 4, 4), np.float16)
    masks = np.zeros((10, 4, 4), np.uint8)
    labels = np.zeros(10, np.int8)
    seen = train = np.arange(10) != 3
    presence = (True, False, False, False)
    has_mask = True
    image_size = 4
    group = "P0"


@pytest.fixture
def batches() -> TrainLoader:
    weights = SourceWeights(volumes=1, pictures=0)
    return TrainLoader(SliceDataset([Case()]), weights, batch_size=3, iterations=0, key=(0, "joint"))


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
    dataset = SliceDataset([Case()])
    seen = torch.cat(
        [batch.images[:, 0, 0, 0] for batch in load_batches(dataset, sequential_batches(dataset, 4))]
    )

    assert seen.tolist() == list(range(10))


@pytest.mark.parametrize(("preload_mib", "in_thread"), [(1, False), (0, True)])
def test_slices_in_memory_are_gathered_without_a_thread(preload_mib: float, in_thread: bool) -> None:
    dataset = SliceDataset([Case()], preload_mib=preload_mib)
    batches = load_batches(dataset, sequential_batches(dataset, 4))
    next(batches)

    assert ("prefetch" in {thread.name for thread in threading.enumerate()}) == in_thread
    assert sum(len(batch) for batch in batches) == 6
