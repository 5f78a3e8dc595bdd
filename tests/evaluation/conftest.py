"""Made-up test sets with masks one can reason about."""

from collections.abc import Callable

import numpy as np
import pytest

from slicewise.config.schema import Evaluation
from slicewise.core.keys import SliceKey
from slicewise.evaluation.choices import make_choices
from slicewise.evaluation.evaluate import CaseOutput, EvaluationResult, evaluate_slices
from slicewise.evaluation.final import FinalResult, evaluate_final

SIDE = 32
SETTINGS = Evaluation(
    flips=False,
    rotation=0.0,
    mask_smoothing=0.0,
    class_smoothing=0.0,
    component_share=0.0,
    batch_size=8,
    mask_threshold=0.5,
    class_threshold=0.5,
    calibrate="platt",
    operating_point="youden",
    sensitivity_target=0.95,
    choose_mask_threshold=True,
    postprocess=True,
    min_choice_patients=4,
    calibration_bins=15,
    bootstrap_samples=200,
    confidence=0.95,
    nsd_tolerance_mm=2.0,
    gradcam_pictures=8,
    explanations=("gradcam", "hirescam"),
    modality_subsets=False,
    sample_predictions=6,
    failure_dice=0.5,
    failure_pictures=6,
)


def make_case(
    rng: np.random.Generator, source: str, patient: str, *, has_mask: bool = True, skill: float = 1.0
) -> CaseOutput:
    """Return eight slices, discs of tumour in most of them, found the better the higher the skill."""
    num_slices = 8 if has_mask else 1
    rows, columns = np.mgrid[:SIDE, :SIDE]
    centre = rng.uniform(10, 22, 2)
    radius = np.maximum(0, 7 - 2 * np.abs(np.arange(num_slices) - 4)) if has_mask else np.array([0.0])
    distance = np.hypot(rows - centre[0], columns - centre[1])
    masks = (distance < radius[:, None, None]).astype(np.uint8)
    labels = masks.any(axis=(1, 2)).astype(np.int8) if has_mask else np.array([int(patient[-1]) % 2], np.int8)
    shifted = np.hypot(rows - centre[0] - 3 * (1 - skill) * rng.normal(), columns - centre[1])
    probability = 1 / (1 + np.exp(shifted - radius[:, None, None] - (1 - skill) * rng.normal()))
    scores = 1 / (1 + np.exp(-(skill * 4 * (2 * labels - 1) + 1.5 * rng.normal(size=num_slices))))
    return CaseOutput(
        keys=[SliceKey(source, patient, patient, index) for index in range(num_slices)],
        group=patient,
        mask_probability=probability.astype(np.float32),
        class_probability=scores.astype(np.float32),
        masks=masks,
        has_mask=has_mask,
        labels=labels,
        pixel_mm=2.0,
        slice_mm=5.0,
    )


def make_cases(
    num_patients: int = 4, num_pictures: int = 12, skill: float = 0.7, seed: int = 0
) -> list[CaseOutput]:
    rng = np.random.default_rng(seed)
    cases = [make_case(rng, "lgg", f"P{number:03d}", skill=skill) for number in range(num_patients)]
    cases += [
        make_case(rng, "pictures", f"Y{number:03d}", has_mask=False, skill=skill)
        for number in range(num_pictures)
    ]
    return cases


def make_result(
    num_patients: int = 4, num_pictures: int = 12, skill: float = 0.7, seed: int = 0
) -> EvaluationResult:
    return evaluate_slices(make_cases(num_patients, num_pictures, skill, seed), SETTINGS, seed=7)


def make_final(num_patients: int = 4, num_pictures: int = 12, skill: float = 0.7) -> FinalResult:
    """Choose on one made-up cohort and evaluate another one."""
    choices = make_choices(make_cases(num_patients, num_pictures, skill, seed=1), SETTINGS)
    return evaluate_final(make_cases(num_patients, num_pictures, skill), choices, SETTINGS, seed=7)


@pytest.fixture
def case() -> CaseOutput:
    return make_case(np.random.default_rng(3), "lgg", "P001")


@pytest.fixture
def result() -> EvaluationResult:
    return make_result()


@pytest.fixture
def final() -> FinalResult:
    return make_final()


@pytest.fixture
def finals() -> Callable[..., FinalResult]:
    return make_final


@pytest.fixture
def cohorts() -> Callable[..., list[CaseOutput]]:
    return make_cases


@pytest.fixture
def results() -> Callable[..., EvaluationResult]:
    return make_result


@pytest.fixture
def settings() -> Evaluation:
    return SETTINGS
