import numpy as np
import pytest

from slicewise.data.phantom.patients import PhantomPatient, Subject, generate_patient

SEED = 0


@pytest.fixture(scope="session")
def patients() -> list[PhantomPatient]:
    return [generate_patient(number, SEED) for number in range(2)]


@pytest.fixture(scope="session")
def subject() -> Subject:
    return Subject((SEED, 0, 0))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)
