import numpy as np
import pytest
import torch

from slicewise.explain.cam import compute_saliency
from slicewise.explain.faithfulness import CASCADE_ORDER, randomize_cascade, rank_correlation
from slicewise.models.checkpoint import Checkpoint
from slicewise.models.multitask import MultitaskModel, modules_by_part


def weights(model: MultitaskModel, part: str) -> list[torch.Tensor]:
    return [value.clone() for value in modules_by_part(model)[part].state_dict().values()]  # type: ignore[index]


def test_the_network_forgets_from_the_answer_down_and_the_original_nothing(checkpoint: Checkpoint) -> None:
    model = checkpoint.build()
    before = {part: weights(model, part) for part in CASCADE_ORDER}
    forgotten: list[str] = []
    for part, randomized in randomize_cascade(model, 0):
        forgotten.append(part)
        for name in CASCADE_ORDER:
            pairs = zip(before[name], weights(randomized, name), strict=True)
            assert all(torch.equal(one, other) for one, other in pairs) is (name not in forgotten)
    assert tuple(forgotten) == CASCADE_ORDER
    for name in CASCADE_ORDER:
        assert all(torch.equal(*pair) for pair in zip(before[name], weights(model, name), strict=True))


def test_it_forgets_the_same_way_each_time_and_leaves_the_generator_alone(checkpoint: Checkpoint) -> None:
    model = checkpoint.build()
    state = torch.random.get_rng_state()
    first, again = ([weights(found, part) for part, found in randomize_cascade(model, 3)] for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_the_heat_of_a_network_that_forgot_is_another_one(checkpoint: Checkpoint) -> None:
    model = checkpoint.build()
    images = np.random.default_rng(0).normal(size=(2, 4, 64, 64)).astype(np.float32)
    known = compute_saliency(model, images, (1, 1, 1, 1), ["layercam"])["layercam"]
    for _, randomized in randomize_cascade(model, 0):
        assert not np.allclose(
            known, compute_saliency(randomized, images, (1, 1, 1, 1), ["layercam"])["layercam"]
        )


def test_likeness_is_of_ranks_and_of_the_brain() -> None:
    whole = np.ones((32, 32), bool)
    rng = np.random.default_rng(0)
    saliency = rng.random((32, 32), dtype=np.float32)
    other = rng.random((32, 32), dtype=np.float32)
    assert rank_correlation(saliency, saliency**3, whole) == pytest.approx(1)
    assert rank_correlation(saliency, -saliency, whole) == pytest.approx(-1)
    assert abs(rank_correlation(saliency, other, whole)) < 0.1
    half = whole.copy()
    half[16:] = False
    assert rank_correlation(saliency, np.where(half, saliency, other), half) == pytest.approx(1)


def test_no_heat_is_like_nothing() -> None:
    whole, nothing = np.ones((32, 32), bool), np.zeros((32, 32), np.float32)
    corner = np.zeros((32, 32), np.float32)
    corner[:16, :16] = 1
    assert rank_correlation(nothing, corner, whole) == rank_correlation(corner, nothing, whole) == 0
