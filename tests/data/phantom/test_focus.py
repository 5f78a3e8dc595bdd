import numpy as np
import pytest

from slicewise.data.phantom.fields import Points
from slicewise.data.phantom.focus import Focus, _ellipsoid, place_foci
from slicewise.data.phantom.subject import Subject


def test_foci_lie_in_the_parenchyma_of_both_hemispheres(subject: Subject) -> None:
    places = subject.survey.coordinates()
    sides = []
    for number in range(200):
        rng = np.random.default_rng([4, number])
        focus = place_foci(rng, subject.survey, subject.tissue, radius=12.0, count=1)[0]
        nearest = np.abs(places - np.array(focus.centre)[:, None]).sum(axis=0).argmin()
        assert subject.tissue.depth[nearest] > 5
        assert subject.tissue.csf[nearest] < 0.3
        assert subject.tissue.ventricle[nearest] > 0
        sides.append(np.sign(subject.tissue.lateral[nearest]))
    assert 0.35 < np.mean(np.array(sides) > 0) < 0.65


def test_a_second_focus_is_smaller_and_apart(subject: Subject) -> None:
    for number in range(20):
        rng = np.random.default_rng([5, number])
        foci = place_foci(rng, subject.survey, subject.tissue, radius=10.0, count=2)
        gap = np.linalg.norm(np.subtract(foci[0].centre, foci[-1].centre))
        assert len(foci) == 2
        assert foci[1].radius < foci[0].radius
        assert 27 < gap < 60


def test_ellipsoids_keep_the_volume(rng: np.random.Generator) -> None:
    for _ in range(20):
        assert abs(np.linalg.det(_ellipsoid(rng))) == pytest.approx(1, rel=1e-3)


def test_distance_in_a_ball_is_euclidean() -> None:
    axes = [np.array(values, dtype=np.float32) for values in ([10.0], [20.0], [30.0])]
    focus = Focus((10.0, 23.0, 34.0), np.eye(3, dtype=np.float32), 5.0, 1.0)
    assert focus.distance(Points.box(axes[0], axes[1], axes[2])) == pytest.approx([5.0])
