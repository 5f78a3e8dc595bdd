"""What the network said, joined with the truth."""

from pathlib import Path

import numpy as np
import pytest
from tests.imaging.ellipsoid import settings, tumour, volume

from slicewise.core.labels import CLASSIFICATION, SEGMENTATION
from slicewise.data.store import SliceStore
from slicewise.data.stored import StoredCase
from slicewise.imaging.slicing import prepare
from slicewise.inference.predictor import SlicePredictions
from slicewise.steps.outputs import NO_ANSWER, case_output


@pytest.fixture
def case(tmp_path: Path) -> StoredCase:
    """A case whose first slice has tumour and hardly any brain."""
    mask = tumour()
    mask[1, 36, 30] = 1
    store = SliceStore(tmp_path)
    store.write("toy/c1-0", prepare(volume(mask=mask), settings()), "p1")
    return store.open("toy/c1-0")


def said(case: StoredCase) -> SlicePredictions:
    """Say of every pixel and every slice that it is tumour, almost surely."""
    shape = case.masks.shape
    return SlicePredictions(np.full(shape, 0.9, np.float32), np.full(shape[0], 0.9, np.float32))


def test_of_a_slice_that_serving_never_looks_at_the_answer_is_no(case: StoredCase) -> None:
    output = case_output(case, said(case))
    assert output.labels[0] == 1
    assert output.class_probability[0] == 0
    assert not output.mask_probability[0].any()
    assert (output.class_probability[1:] == np.float32(0.9)).all()
    assert (output.mask_probability[1:] == np.float32(0.9)).all()
    assert output.mask_probability.dtype == output.class_probability.dtype == np.float32


def test_a_task_that_was_not_trained_gives_no_answer(case: StoredCase) -> None:
    assert not case_output(case, said(case), [SEGMENTATION]).has_mask
    unknown = case_output(case, said(case), [CLASSIFICATION]).class_probability
    assert (unknown[1:] == NO_ANSWER).all()
