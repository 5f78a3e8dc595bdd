import numpy as np

from slicewise.data.phantom.anatomy import Brain, Push, Warp, _rotation
from slicewise.data.phantom.patients import Subject


def test_fractions_are_those_of_a_partition(subject: Subject) -> None:
    tissue = subject.tissue
    total = tissue.csf + tissue.grey + tissue.white
    np.testing.assert_allclose(total, 1, atol=1e-5)
    for part in (tissue.csf, tissue.grey, tissue.white):
        assert part.min() >= -1e-6


def test_the_brain_has_the_parts_of_a_brain(subject: Subject) -> None:
    inside = subject.tissue.depth > 0
    litres = inside.sum() * 64 / 1e6
    assert 1.0 < litres < 2.0
    white = subject.tissue.white[inside].mean()
    grey = subject.tissue.grey[inside].mean()
    assert 0.2 < white < 0.5
    assert 0.3 < grey < 0.7


def test_brains_differ(rng: np.random.Generator, subject: Subject) -> None:
    points = subject.survey
    first, second = Brain(rng).depth(points), Brain(rng).depth(points)
    assert np.abs(first - second).mean() > 0.5


def test_a_floor_narrows_the_points(subject: Subject) -> None:
    points, tissue = subject.brain.at(subject.survey, floor=5)
    assert points.mask.sum() == tissue.depth.size < subject.survey.mask.sum()
    assert tissue.depth.min() > 5


def test_rotations_keep_lengths(rng: np.random.Generator) -> None:
    turn = _rotation(rng.normal(0, 1, 3))
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)


def test_mass_effect_moves_tissue_outwards_and_fades(rng: np.random.Generator, subject: Subject) -> None:
    warp, points = Warp(rng), subject.survey
    places = points.coordinates()
    centre = (77.0, 120.0, 100.0)
    plain, pushed = warp.at(points), warp.at(points, (Push(centre, 15.0, 0.4),))
    moved = np.linalg.norm(pushed - plain, axis=0)
    distance = np.linalg.norm(places - np.array(centre)[:, None], axis=0)
    ring, far = (distance > 10) & (distance < 30), distance > 75
    assert moved[ring].mean() > 2
    assert moved[far].max() < 0.1
    hub = plain[:, distance.argmin()][:, None]
    assert (np.linalg.norm(pushed - hub, axis=0) <= np.linalg.norm(plain - hub, axis=0) + 1.5)[ring].all()
