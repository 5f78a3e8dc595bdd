from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from slicewise.config.schema.evaluation import Explanation
from slicewise.explain.cam import compute_gradcam, compute_saliency
from slicewise.models.checkpoint import Checkpoint
from slicewise.models.multitask import MultitaskModel

SIDE = 64
CORNERS = ((16, 16), (48, 0), (0, 32))


@pytest.fixture
def squares() -> NDArray[np.float16]:
    """Dark noise with one bright square, elsewhere in each slice."""
    images = np.random.default_rng(0).uniform(-0.5, 0.05, (3, 4, SIDE, SIDE)).astype(np.float16)
    for image, (row, column) in zip(images, CORNERS, strict=True):
        image[0, row : row + 16, column : column + 16] = 3
    return images


def test_heat_lies_on_the_evidence(bright_net: MultitaskModel, squares: NDArray[np.float16]) -> None:
    saliency = compute_gradcam(bright_net, squares, (1, 1, 1, 1), batch_size=2)
    assert saliency.shape == (3, SIDE, SIDE)
    assert saliency.dtype == np.float32
    for found, (row, column) in zip(saliency, CORNERS, strict=True):
        peak_row, peak_column = np.unravel_index(found.argmax(), found.shape)
        assert row <= peak_row < row + 16
        assert column <= peak_column < column + 16
        inside = found[row : row + 16, column : column + 16].sum() / found.sum()
        assert inside > 5 * 16 * 16 / SIDE**2
        assert found.min() == 0
        assert found.max() <= 1


def test_batches_do_not_matter(bright_net: MultitaskModel, squares: NDArray[np.float16]) -> None:
    one = compute_gradcam(bright_net, squares, (1, 1, 1, 1), batch_size=1)
    np.testing.assert_allclose(
        one, compute_gradcam(bright_net, squares, (1, 1, 1, 1), batch_size=3), atol=1e-5
    )


def test_nothing_speaks_for_a_tumour_in_a_dark_slice(bright_net: MultitaskModel) -> None:
    assert not compute_gradcam(bright_net, np.full((1, 4, SIDE, SIDE), -1.0), (1, 1, 1, 1)).any()


def test_heat_outside_is_removed_on_request(bright_net: MultitaskModel, squares: NDArray[np.float16]) -> None:
    inside = np.zeros((3, SIDE, SIDE), bool)
    inside[:, 16:48, 16:48] = True
    saliency = compute_gradcam(bright_net, squares, (1, 1, 1, 1), inside=inside)
    assert not saliency[~inside].any()
    assert all(found.max() in (0, 1) for found in saliency)
    assert any(found.any() for found in saliency)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(checkpoint: Checkpoint, frozen: bool, training: bool) -> None:
    model = checkpoint.build().train(training)
    model.encoder.requires_grad_(not frozen)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [parameter.requires_grad for parameter in model.parameters()]
    images = np.random.default_rng(1).normal(size=(2, 4, SIDE, SIDE)).astype(np.float32)
    saliency = compute_gradcam(model, images, (1, 0, 0, 1))
    assert saliency.any()
    assert model.training is training
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())
    for module in model.modules():
        assert not module._forward_hooks
        assert not module._backward_hooks
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_an_error_leaves_no_trace(checkpoint: Checkpoint) -> None:
    model = checkpoint.build()
    with pytest.raises(RuntimeError):
        compute_gradcam(model, np.zeros((1, 3, SIDE, SIDE)), (1, 1, 1))
    assert not any(module._forward_hooks for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("method", get_args(Explanation))
def test_every_method_finds_the_evidence_and_leaves_no_trace(
    bright_net: MultitaskModel, squares: NDArray[np.float16], method: Explanation
) -> None:
    saliency = compute_saliency(bright_net, squares, (1, 1, 1, 1), [method])[method]
    for found, (row, column) in zip(saliency, CORNERS, strict=True):
        inside = found[row : row + 16, column : column + 16].sum() / found.sum()
        assert inside > 5 * 16 * 16 / SIDE**2
        assert (found.min(), found.max() <= 1) == (0, True)
    assert not any(module._forward_hooks for module in bright_net.modules())
    assert all(parameter.grad is None for parameter in bright_net.parameters())


def test_a_method_is_worth_the_same_alone_and_among_others(
    bright_net: MultitaskModel, squares: NDArray[np.float16]
) -> None:
    saliency_maps = compute_saliency(bright_net, squares, (1, 1, 1, 1), get_args(Explanation))
    np.testing.assert_array_equal(
        compute_gradcam(bright_net, squares, (1, 1, 1, 1)), saliency_maps["gradcam"]
    )
    for method in get_args(Explanation):
        alone = compute_saliency(bright_net, squares, (1, 1, 1, 1), [method])[method]
        np.testing.assert_array_equal(alone, saliency_maps[method])
