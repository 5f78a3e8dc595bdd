import numpy as np

from slicewise.data.phantom.patients import Subject, brain_points


def test_the_survey_covers_the_brain(subject: Subject) -> None:
    assert subject.survey.mask.sum() == subject.tissue.depth.size
    assert subject.tissue.depth.min() < -5
    litres = (subject.tissue.depth > 0).sum() * 64 / 1e6
    assert 1.0 < litres < 2.0


def test_brain_points_miss_nothing(subject: Subject) -> None:
    points = brain_points(subject)
    depth = points.grid(subject.brain.depth(points, subject.pushes))
    inside = depth > 0
    for axis in range(3):
        assert not np.take(inside, [0, -1], axis=axis).any() or axis == 0
    assert 1.0e6 < inside.sum() < 2.0e6


def test_a_subject_without_a_tumour_has_no_compartments() -> None:
    healthy = Subject((0, 1, 1), with_tumour=False)
    found = healthy.compartments(healthy.survey, healthy.tissue)
    assert healthy.pushes == ()
    assert found.labels().max() == 0


def test_subjects_depend_on_their_key_alone(subject: Subject) -> None:
    again = Subject((0, 0, 0))
    other = Subject((0, 1, 0))
    np.testing.assert_array_equal(again.tissue.csf, subject.tissue.csf)
    assert again.tumour is not None
    assert subject.tumour is not None
    assert other.tumour is not None
    assert again.tumour.foci[0].centre == subject.tumour.foci[0].centre
    assert other.tumour.foci[0].centre != subject.tumour.foci[0].centre
    assert other.brain.atrophy != subject.brain.atrophy
