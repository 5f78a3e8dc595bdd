import numpy as np
import pytest

from slicewise.data.phantom.fields import Points
from slicewise.data.phantom.patients import PhantomPatient, Subject
from slicewise.data.phantom.tumour import Compartments, Focus, Tumour, _ellipsoid, draw_tumour, place_foci


def millilitres(labels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> float:
    return float((labels > 0).sum() / 1000)


@pytest.fixture(scope="module")
def tumours(subject: Subject) -> list[Tumour]:
    draws = (np.random.default_rng([3, number]) for number in range(200))
    return [draw_tumour(rng, subject.survey, subject.tissue, (3.0, 150.0))[0] for rng in draws]


def test_labels_nest_and_take_the_values_of_brats() -> None:
    soft = Compartments(
        whole=np.array([0.1, 0.9, 1.0, 1.0]),
        core=np.array([0.0, 0.2, 0.8, 0.9]),
        rim=np.array([1.0, 1.0, 0.1, 0.9]),
    )
    assert soft.labels().tolist() == [0, 2, 1, 4]


def test_sizes_cover_the_range(tumours: list[Tumour]) -> None:
    sizes = np.array([tumour.millilitres for tumour in tumours])
    assert sizes.min() < 8
    assert sizes.max() > 110
    assert ((sizes >= 3) & (sizes <= 150)).all()


def test_some_do_not_enhance_and_some_have_two_foci(tumours: list[Tumour]) -> None:
    low_grade = np.mean([tumour.kind == "low_grade" for tumour in tumours])
    double = np.mean([len(tumour.foci) == 2 for tumour in tumours])
    assert 0.08 < low_grade < 0.18
    assert 0.05 < double < 0.2


@pytest.mark.parametrize("number", range(2))
def test_a_rendered_tumour_has_about_the_volume_drawn(patients: list[PhantomPatient], number: int) -> None:
    tumour = Subject((0, 0, number)).tumour
    assert tumour is not None
    assert millilitres(patients[number].labels) == pytest.approx(tumour.millilitres, rel=0.25)


def test_oedema_follows_white_matter_and_spares_ventricles(subject: Subject) -> None:
    found = subject.compartments(subject.survey, subject.tissue)
    oedema = found.labels() == 2
    assert oedema.any()
    ventricles = (subject.tissue.csf > 0.9) & (subject.tissue.ventricle < 0)
    assert ventricles.sum() > 50
    assert not (oedema & ventricles).any()
    inside = subject.tissue.depth > 0
    assert subject.tissue.white[oedema].mean() > subject.tissue.white[inside].mean()


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
