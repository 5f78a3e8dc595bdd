"""The predictions of a model beside the reference."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.imaging.ellipsoid import settings, tumour, volume
from tests.inference.pipelines import PLAIN, pipeline
from torch import Tensor

from slicewise.config.compose import compose
from slicewise.config.schema.evaluation import InferenceSettings
from slicewise.config.schema.model import TaskName
from slicewise.data.store import SliceStore, StoredCase
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION, TASKS
from slicewise.evaluation.case_output import CaseOutput
from slicewise.evaluation.evaluate import score_case
from slicewise.imaging.slicing import extract_slices
from slicewise.inference.postprocess import Postprocessing
from slicewise.models.checkpoint import Checkpoint
from slicewise.workflow.evaluation import case_output


@pytest.fixture
def case(tmp_path: Path) -> StoredCase:
    """A case whose first slice has tumour and hardly any brain."""
    mask = tumour()
    mask[1, 36, 30] = 1
    store = SliceStore(tmp_path)
    store.write("toy/c1-0", extract_slices(volume(mask=mask), settings()), "p1")
    return store.open("toy/c1-0")


def sure(images: Tensor, _: Tensor) -> dict[TaskName, Tensor]:
    """Say of every pixel and every slice that it is tumour, almost surely."""
    logit = torch.tensor(0.9).logit()
    mask = logit.expand(len(images), 1, *images.shape[2:])
    return {"segmentation": mask, "classification": logit.expand(len(images), 1)}


def predicted(
    checkpoint: Checkpoint,
    case: StoredCase,
    tasks: tuple[TaskName, ...] = TASKS,
    inference: InferenceSettings = PLAIN,
) -> CaseOutput:
    found = pipeline(checkpoint, inference=inference, batch_size=4)
    found._members = [sure]
    own = {name: task for name, task in found.tasks.items() if name in tasks}
    return case_output(case, found.predict(case), own)


@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_of_a_slice_that_serving_never_looks_at_the_answer_is_no(
    checkpoint: Checkpoint, case: StoredCase, smoothing: float
) -> None:
    """Nor does that no reach the slices beside it, which in serving have no such neighbour."""
    inference = InferenceSettings(mask_smoothing=smoothing, class_smoothing=smoothing)
    output = predicted(checkpoint, case, inference=inference)
    assert output.labels[0] == 1
    assert output.class_probability[0] == 0
    assert not output.mask_probability[0].any()
    inside = case.images[1:].any(axis=1).all(axis=0)  # in all slices: smoothing averages over neighbours
    np.testing.assert_allclose(output.class_probability[1:], 0.9, rtol=1e-6)
    np.testing.assert_allclose(output.mask_probability[1:, 0][:, inside], 0.9, rtol=1e-6)
    assert output.mask_probability.dtype == output.class_probability.dtype == np.float32


def test_the_whole_case_is_called_by_the_slices_that_were_asked_about(
    checkpoint: Checkpoint, case: StoredCase
) -> None:
    """As in serving: a slice without an answer has no part in the running mean over neighbours."""
    settings = compose([]).evaluation
    output = predicted(checkpoint, case)
    scored = score_case(output, settings, Postprocessing.configured(settings), surfaces=False)
    assert scored.tumour_probability == pytest.approx(0.9)
    assert [row.asked for row in scored.rows] == case.included.tolist()
    assert not scored.rows[0].asked


def test_without_segmentation_a_case_has_no_mask(checkpoint: Checkpoint, case: StoredCase) -> None:
    assert predicted(checkpoint, case, (SEGMENTATION,)).has_mask
    assert not predicted(checkpoint, case, (CLASSIFICATION,)).has_mask
