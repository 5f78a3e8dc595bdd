"""A small network."""

import pytest

from slicewise.config.schema import Model


@pytest.fixture
def model() -> Model:
    return Model(
        architecture="unet",
        encoder="resnet18",
        encoder_weights=None,
        encoder_depth=3,
        decoder_width=16,
        head_hidden=8,
        head_dropout=0.5,
    )
