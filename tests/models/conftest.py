"""A small network."""

import pytest
from tests.fixtures.small_model import MODEL

from slicewise.config.schema import Model


@pytest.fixture
def model() -> Model:
    return MODEL.model_copy(update={"encoder_depth": 3, "head_dropout": 0.5})
