from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.inference.pipelines import pipeline

from slicewise.core.errors import CheckpointError
from slicewise.inference.pipeline import Pipeline
from slicewise.models.checkpoint import Checkpoint, save_checkpoint

SIDE = 64


@pytest.fixture(scope="module")
def sibling(checkpoint: Checkpoint) -> Checkpoint:
    """The same network with other weights, as another fold would have it."""
    noise = torch.Generator().manual_seed(1)
    weights = {
        name: tensor + 0.01 * torch.randn(tensor.shape, generator=noise) if tensor.ndim == 4 else tensor
        for name, tensor in checkpoint.weights.items()
    }
    return replace(checkpoint, weights=weights, fingerprint="1" * 64)


@pytest.fixture(scope="module")
def images() -> NDArray[np.float16]:
    return np.random.default_rng(0).normal(size=(3, 4, SIDE, SIDE)).astype(np.float16)


def test_an_ensemble_answers_with_the_mean(
    checkpoint: Checkpoint, sibling: Checkpoint, images: NDArray[np.float16]
) -> None:
    members = [pipeline(one) for one in (checkpoint, sibling)]
    found = pipeline(checkpoint, sibling).predict_slices(images, (1, 1, 1, 1))
    one, other = (member.predict_slices(images, (1, 1, 1, 1)) for member in members)
    assert not np.allclose(one.class_probability, other.class_probability, atol=1e-4)
    np.testing.assert_allclose(
        found.mask_probability, (one.mask_probability + other.mask_probability) / 2, atol=1e-6
    )
    np.testing.assert_allclose(
        found.class_probability, (one.class_probability + other.class_probability) / 2, atol=1e-6
    )


def test_an_ensemble_of_equals_is_each_of_them(checkpoint: Checkpoint) -> None:
    pixels = np.zeros((90, 80), np.uint8)
    pixels[20:70, 20:60] = np.random.default_rng(0).integers(50, 200, (50, 40))
    found, expected = pipeline(checkpoint, checkpoint).predict(pixels), pipeline(checkpoint).predict(pixels)
    np.testing.assert_array_equal(found.class_probability, expected.class_probability)
    np.testing.assert_array_equal(found.mask_probability, expected.mask_probability)


def test_who_answers_is_named_whatever_the_order(
    checkpoint: Checkpoint, sibling: Checkpoint, tmp_path: Path
) -> None:
    paths = [tmp_path / "1.pth", tmp_path / "2.pth"]
    for path, one in zip(paths, (replace(checkpoint, synthetic=False), sibling), strict=True):
        save_checkpoint(path, one)
    forward, backward = (Pipeline.load(order, device="cpu") for order in (paths, paths[::-1]))
    assert forward.fingerprint == backward.fingerprint
    assert forward.fingerprint not in (checkpoint.fingerprint, sibling.fingerprint)
    assert forward.synthetic, "one network that saw generated patients alone is enough for the warning"


def test_flips_reach_every_member(
    checkpoint: Checkpoint, images: NDArray[np.float16], tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "1.pth", checkpoint)
    paths = [tmp_path / "1.pth"] * 2
    found, plain = (
        Pipeline.load(paths, device="cpu", flips=flips).predict_slices(images, (1, 1, 1, 1)).class_probability
        for flips in (True, False)
    )
    assert not np.allclose(found, plain, atol=1e-6)


def other_size(one: Checkpoint) -> Checkpoint:
    return replace(one, preprocessing=one.preprocessing.model_copy(update={"image_size": 96}))


def other_channels(one: Checkpoint) -> Checkpoint:
    weights = dict(one.weights)
    name = next(name for name, value in weights.items() if name.startswith("encoder.") and value.ndim == 4)
    weights[name] = weights[name].repeat(1, 3, 1, 1)
    return replace(one, weights=weights)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (other_size, "preprocessing.image_size is 96 and not 64"),
        (other_channels, "input channels is 12 and not 4"),
        (lambda one: replace(one, slot="t1"), "data.sources.pictures.slot is t1 and not flair"),
    ],
)
def test_networks_that_see_other_things_are_refused_by_name(
    checkpoint: Checkpoint, change: Callable[[Checkpoint], Checkpoint], words: str
) -> None:
    other = replace(change(checkpoint), fingerprint="2" * 64)
    with pytest.raises(CheckpointError, match=words) as caught:
        pipeline(checkpoint, other)
    assert f"{checkpoint.fingerprint[:12]} differs from 222222222222" in str(caught.value)


def test_settings_of_training_alone_do_not_matter(checkpoint: Checkpoint) -> None:
    preprocessing = checkpoint.preprocessing.model_copy(update={"healthy_ratio": 0.5})
    other = replace(checkpoint, preprocessing=preprocessing)
    assert len(pipeline(checkpoint, other).checkpoints) == 2


def test_nobody_is_no_ensemble() -> None:
    with pytest.raises(CheckpointError, match="at least one"):
        pipeline()
