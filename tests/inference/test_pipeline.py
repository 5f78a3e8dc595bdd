from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.inference.pipelines import PLAIN, pipeline

from slicewise.compute.device import full_precision
from slicewise.config.compose import compose
from slicewise.config.schema.evaluation import InferenceSettings
from slicewise.core.errors import CheckpointError, UsageError
from slicewise.domain.keys import CaseKey
from slicewise.imaging.slicing import extract_slices, restore_to_volume
from slicewise.imaging.volume import Volume
from slicewise.inference.ensemble import tta_transforms
from slicewise.inference.pipeline import Pipeline
from slicewise.inference.postprocess import tumour_probability
from slicewise.models.checkpoint import Checkpoint, save_checkpoint

SIDE = 64


@pytest.fixture(scope="module")
def predictor(checkpoint: Checkpoint) -> Pipeline:
    return pipeline(checkpoint)


@pytest.fixture(scope="module")
def images() -> NDArray[np.float16]:
    return np.random.default_rng(0).normal(size=(35, 4, SIDE, SIDE)).astype(np.float16)


def head(num_slices: int = 6, seed: int = 0) -> NDArray[np.float32]:
    """An ellipsoid of tissue in an empty field of view."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:90, :80]
    inside = np.hypot((rows - 45) / 35, (columns - 40) / 28) < 1
    tissue: NDArray[np.float64] = inside * rng.uniform(50, 200, (num_slices, 90, 80))
    return tissue.astype(np.float32)


@pytest.fixture
def volume() -> Volume:
    volumes = np.zeros((4, 6, 90, 80), np.float32)
    volumes[0], volumes[3] = head(seed=0), head(seed=1)
    return Volume(
        key=CaseKey("lgg", "P1", "P1"),
        images=volumes,
        presence=(True, False, False, True),
        mask=None,
        label=None,
        spacing=(5.0, 2.0, 2.0),
        orientation=None,
    )


def test_predictions_do_not_depend_on_the_batch(checkpoint: Checkpoint, images: NDArray[np.float16]) -> None:
    one, many = (
        pipeline(checkpoint, batch_size=size).predict_slices(images, (1, 1, 0, 1)) for size in (1, 32)
    )
    np.testing.assert_allclose(one.mask_probability, many.mask_probability, atol=1e-5)
    np.testing.assert_allclose(one.class_probability, many.class_probability, atol=1e-5)
    assert one.mask_probability.shape == (35, 1, SIDE, SIDE)
    assert one.mask_probability.dtype == one.class_probability.dtype == np.float32
    assert 0 <= one.mask_probability.min() < one.mask_probability.max() <= 1


def test_predictions_repeat_exactly(checkpoint: Checkpoint, images: NDArray[np.float16]) -> None:
    first, second = (pipeline(checkpoint).predict_slices(images[:4], (1, 1, 1, 1)) for _ in range(2))
    assert np.array_equal(first.mask_probability, second.mask_probability)
    assert np.array_equal(first.class_probability, second.class_probability)


def test_an_empty_slot_is_ignored_whatever_it_holds(predictor: Pipeline, images: NDArray[np.float16]) -> None:
    noisy = images[:2].copy()
    noisy[:, 1] = 99
    found = predictor.predict_slices(images[:2], (1, 0, 1, 1)), predictor.predict_slices(noisy, (1, 0, 1, 1))
    np.testing.assert_array_equal(found[0].mask_probability, found[1].mask_probability)


def test_presence_may_differ_by_slice(predictor: Pipeline, images: NDArray[np.float16]) -> None:
    presence = np.array([[1, 1, 1, 1], [1, 0, 0, 0]])
    both = predictor.predict_slices(images[:2], presence)
    second = predictor.predict_slices(images[1:2], presence[1])
    np.testing.assert_allclose(both.mask_probability[1], second.mask_probability[0], atol=1e-5)


def test_no_slices_give_empty_predictions(predictor: Pipeline, images: NDArray[np.float16]) -> None:
    found = predictor.predict_slices(images[:0], (1, 1, 1, 1))
    assert found.mask_probability.shape == (0, 1, SIDE, SIDE)
    assert tumour_probability(found.class_probability) == 0


def test_a_volume_is_prepared_predicted_and_put_back(predictor: Pipeline, volume: Volume) -> None:
    found = predictor.predict(volume)
    sliced = extract_slices(volume, predictor.checkpoints[0].preprocessing)
    slices = predictor.predict_slices(sliced.images, sliced.presence)
    np.testing.assert_array_equal(found.mask_probability, slices.mask_probability)
    expected = restore_to_volume(slices.mask_probability[:, 0], sliced.geometry) >= 0.5
    assert found.mask is not None
    np.testing.assert_array_equal(found.mask, expected)
    assert found.mask.shape == volume.shape
    assert np.array_equal(found.class_probability, slices.class_probability)


def test_a_checkpoint_file_is_enough(
    tmp_path: Path, checkpoint: Checkpoint, predictor: Pipeline, images: NDArray[np.float16]
) -> None:
    save_checkpoint(tmp_path / "best_model.pth", checkpoint)
    loaded = Pipeline.load(tmp_path / "best_model.pth", device="cpu", flips=False)
    expected = predictor.predict_slices(images[:2], (1, 1, 1, 1))
    found = loaded.predict_slices(images[:2], (1, 1, 1, 1))
    np.testing.assert_array_equal(found.mask_probability, expected.mask_probability)
    assert not loaded.model.training
    with pytest.raises(CheckpointError):
        Pipeline.load(str(tmp_path / "none.pth"))


def test_one_slice_that_stands_out_is_smoothed_and_a_run_of_them_is_not() -> None:
    lonely = np.array([0, 0, 0.9, 0, 0], np.float32)
    run = np.array([0, 0.9, 0.9, 0.9, 0], np.float32)
    assert tumour_probability(lonely) == pytest.approx(0.3)
    assert tumour_probability(run) == pytest.approx(0.9)
    assert tumour_probability(np.array([0.4], np.float32)) == pytest.approx(0.4)


def test_a_device_that_is_not_there_is_named(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UsageError, match=r"runtime\.device is cuda"):
        Pipeline([checkpoint], compose([]).evaluation, device="cuda")


def test_with_flips_a_slice_and_its_mirror_image_get_the_same_answer(
    checkpoint: Checkpoint, predictor: Pipeline, images: NDArray[np.float16]
) -> None:
    both, presence = pipeline(checkpoint, inference=InferenceSettings(flips=True)), (1, 1, 1, 1)
    found = both.predict_slices(images[:3], presence)
    mirrored = both.predict_slices(images[:3, ..., ::-1], presence)
    np.testing.assert_allclose(found.mask_probability, mirrored.mask_probability[..., ::-1], atol=1e-5)
    np.testing.assert_allclose(found.class_probability, mirrored.class_probability, atol=1e-5)
    plain = predictor.predict_slices(images[:3], presence)
    inverse = predictor.predict_slices(images[:3, ..., ::-1], presence)
    mean = (plain.mask_probability + inverse.mask_probability[..., ::-1]) / 2
    np.testing.assert_allclose(found.mask_probability, mean, atol=1e-5)
    assert not np.allclose(found.mask_probability, plain.mask_probability, atol=1e-3)


def test_of_several_views_the_mean_answers(
    checkpoint: Checkpoint, predictor: Pipeline, images: NDArray[np.float16]
) -> None:
    inference, presence = InferenceSettings(flips=True, rotation=8), (1, 1, 1, 1)
    found = pipeline(checkpoint, inference=inference).predict_slices(images[:2], presence)
    brains = torch.from_numpy(images[:2].astype(np.float32))
    seen = [
        (view, predictor.predict_slices(view.apply(brains).numpy(), presence))
        for view in tta_transforms(inference)
    ]
    classes = [slices.class_probability for _, slices in seen]
    np.testing.assert_allclose(found.class_probability, np.mean(classes, axis=0), atol=1e-5)
    masks = [view.inverse(torch.from_numpy(slices.mask_probability))[:, 0] for view, slices in seen]
    middle = slice(None), slice(16, 48), slice(16, 48)
    mean = torch.stack(masks).mean(0).numpy()
    np.testing.assert_allclose(found.mask_probability[:, 0][middle], mean[middle], atol=1e-5)
    corners = [mask[:, 0, 0] for mask, (view, _) in zip(masks, seen, strict=True) if not view.degrees]
    np.testing.assert_allclose(found.mask_probability[:, 0, 0, 0], np.mean(corners, axis=0), atol=1e-5)


def test_slices_are_asked_about_plainly_unless_more_is_wanted(
    predictor: Pipeline, images: NDArray[np.float16]
) -> None:
    assert predictor.inference == PLAIN
    stack, slices = (ask(images, (1, 1, 1, 1)) for ask in (predictor.predict_stack, predictor.predict_slices))
    np.testing.assert_array_equal(stack.mask_probability, slices.mask_probability)
    np.testing.assert_array_equal(stack.class_probability, slices.class_probability)


def averaged(values: NDArray[np.floating], sigma: float) -> NDArray[np.float64]:
    weights = np.exp(-0.5 * (np.arange(-3, 4) / sigma) ** 2)
    padded = np.pad(values.astype(np.float64), 3, mode="edge")
    return np.convolve(padded, weights / weights.sum(), mode="valid")


@pytest.mark.parametrize(
    ("inference", "unchanged"),
    [
        (InferenceSettings(mask_smoothing=1.0), [False, True]),
        (InferenceSettings(class_smoothing=1.0), [True, False]),
    ],
)
def test_either_answer_is_averaged_without_the_other(
    checkpoint: Checkpoint,
    predictor: Pipeline,
    images: NDArray[np.float16],
    inference: InferenceSettings,
    unchanged: list[bool],
) -> None:
    one = pipeline(checkpoint, inference=inference)
    plain, found = (asked.predict_stack(images, (1, 1, 1, 1)) for asked in (predictor, one))
    assert [np.array_equal(*pair) for pair in zip(plain, found, strict=True)] == unchanged


def test_neighbouring_slices_have_a_say_but_none_outside_the_brain(
    checkpoint: Checkpoint, predictor: Pipeline, images: NDArray[np.float16]
) -> None:
    brains = images.copy()
    brains[1, :, :20] = 0
    presence, inference = (1, 1, 1, 1), InferenceSettings(mask_smoothing=0.5, class_smoothing=0.8)
    smooth = pipeline(checkpoint, inference=inference)
    plain, found = predictor.predict_slices(brains, presence), smooth.predict_stack(brains, presence)

    np.testing.assert_allclose(found.class_probability, averaged(plain.class_probability, 0.8), atol=1e-6)
    inside = brains[:, 0, 40, 40] != 0
    pixels = averaged(plain.mask_probability[:, 0, 40, 40], 0.5) * inside
    np.testing.assert_allclose(found.mask_probability[:, 0, 40, 40], pixels, atol=1e-6)
    assert np.all(found.mask_probability[1, 0, :20] == 0)
    assert not np.allclose(found.mask_probability[1], plain.mask_probability[1], atol=1e-4)
    one = smooth.predict_stack(brains[:1], presence)
    np.testing.assert_array_equal(one.class_probability, predictor.predict_slices(brains[:1], presence)[1])


def test_full_precision_leaves_cudnn_on() -> None:
    with full_precision():
        assert torch.backends.cudnn.enabled
        assert not torch.backends.cudnn.allow_tf32
