import torch
from tests.fixtures.small_model import TASKS

from slicewise.config.compose import compose
from slicewise.models.multitask import MultitaskModel, measure_footprint

SETTINGS = compose(
    ["model.encoder=tu-test_resnet", "model.encoder_weights=null", "model.encoder_depth=3"]
).model


def test_weights_are_those_of_the_network() -> None:
    model = MultitaskModel(SETTINGS, TASKS)
    assert measure_footprint(SETTINGS, TASKS, 32, 4).num_weights == sum(
        t.numel() for t in (*model.parameters(), *model.buffers())
    )


def test_maps_grow_with_the_area_and_asking_draws_no_random_number() -> None:
    before = torch.random.get_rng_state()
    small, large = measure_footprint(SETTINGS, TASKS, 64, 4), measure_footprint(SETTINGS, TASKS, 128, 4)
    assert torch.equal(before, torch.random.get_rng_state())
    assert large.num_activations == 4 * small.num_activations
    assert 0 < small.peak_activations < small.num_activations
