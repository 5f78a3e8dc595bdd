import numpy as np
import pytest

from slicewise.data.phantom.contrast import Extras, Mimics
from slicewise.data.phantom.patients import Subject


@pytest.fixture(scope="module")
def drawn(subject: Subject) -> list[Extras]:
    draws = (Mimics(np.random.default_rng([5, number])) for number in range(6))
    return [mimics.at(subject.survey, subject.tissue) for mimics in draws]


def test_fractions_are_fractions(drawn: list[Extras]) -> None:
    for extras in drawn:
        for name in ("hyperintensity", "vessel", "plexus", "dura"):
            values = getattr(extras, name)
            assert values.min() >= 0
            assert values.max() <= 1


def test_hyperintensities_lie_in_white_matter_around_both_ventricles(
    subject: Subject, drawn: list[Extras]
) -> None:
    summed = np.sum([extras.hyperintensity for extras in drawn], axis=0)
    chosen = summed > 0.5
    assert chosen.sum() > 50
    assert subject.tissue.white[chosen].min() > 0.05
    assert np.median(subject.tissue.ventricle[chosen]) < 10
    left = (subject.tissue.lateral[chosen] > 0).mean()
    assert 0.3 < left < 0.7


def test_vessels_are_few_and_thin(subject: Subject, drawn: list[Extras]) -> None:
    inside = subject.tissue.depth > 0
    share = np.mean([(extras.vessel[inside] > 0.5).mean() for extras in drawn])
    assert 0.0005 < share < 0.03


def test_plexus_stays_in_the_lateral_ventricles(subject: Subject, drawn: list[Extras]) -> None:
    chosen = np.max([extras.plexus for extras in drawn], axis=0) > 0.2
    assert chosen.any()
    assert subject.tissue.ventricle[chosen].max() < 1


def test_stripping_is_imperfect_but_not_wild(subject: Subject) -> None:
    kept = [
        Mimics(np.random.default_rng([6, number])).skull_stripped(subject.survey, subject.tissue)
        for number in range(6)
    ]
    brain = subject.tissue.depth > 2
    outside = subject.tissue.depth < -0.5
    assert np.mean([keep[brain].mean() for keep in kept]) > 0.97
    assert any(keep[outside].any() for keep in kept)
    assert np.mean([keep[outside].mean() for keep in kept]) < 0.25
