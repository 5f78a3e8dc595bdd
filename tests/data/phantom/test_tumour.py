import numpy as np
import pytest

from slicewise.data.phantom.patient import PhantomPatient
from slicewise.data.phantom.subject import Subject, draw_subject
from slicewise.data.phantom.tumour import Compartments, Tumour, draw_tumour


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


@pytest.mark.parametrize("number", range(3))
def test_a_rendered_tumour_has_about_the_volume_drawn(patients: list[PhantomPatient], number: int) -> None:
    tumour = draw_subject((0, 0, number)).tumour
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
