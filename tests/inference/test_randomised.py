import numpy as np
import torch

from slicewise.inference.gradcam import explain
from slicewise.inference.randomised import CASCADE, cascade
from slicewise.models.checkpoint import Checkpoint
from slicewise.models.multitask import MultitaskNet, parts


def weights(net: MultitaskNet, part: str) -> list[torch.Tensor]:
    return [value.clone() for value in parts(net)[part].state_dict().values()]  # type: ignore[index]


def test_the_network_forgets_from_the_answer_down_and_the_original_nothing(checkpoint: Checkpoint) -> None:
    net = checkpoint.build()
    before = {part: weights(net, part) for part in CASCADE}
    forgotten: list[str] = []
    for part, forgetful in cascade(net, 0):
        forgotten.append(part)
        for name in CASCADE:
            pairs = zip(before[name], weights(forgetful, name), strict=True)
            assert all(torch.equal(one, other) for one, other in pairs) is (name not in forgotten)
    assert tuple(forgotten) == CASCADE
    for name in CASCADE:
        assert all(torch.equal(*pair) for pair in zip(before[name], weights(net, name), strict=True))


def test_it_forgets_the_same_way_each_time_and_leaves_the_generator_alone(checkpoint: Checkpoint) -> None:
    net = checkpoint.build()
    state = torch.random.get_rng_state()
    first, again = ([weights(found, part) for part, found in cascade(net, 3)] for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), state)
    for one, other in zip(first, again, strict=True):
        assert all(torch.equal(*pair) for pair in zip(one, other, strict=True))


def test_the_heat_of_a_network_that_forgot_is_another_one(checkpoint: Checkpoint) -> None:
    net = checkpoint.build()
    images = np.random.default_rng(0).normal(size=(2, 4, 64, 64)).astype(np.float32)
    known = explain(net, images, (1, 1, 1, 1), ["layercam"])["layercam"]
    for _, forgetful in cascade(net, 0):
        assert not np.allclose(known, explain(forgetful, images, (1, 1, 1, 1), ["layercam"])["layercam"])
