import numpy as np
import pytest

from slicewise.data.phantom.contrast import Scanner, _planes_of_noise, draw_signals
from slicewise.data.phantom.fields import Points
from slicewise.data.phantom.patients import PhantomPatient, Subject
from slicewise.domain.labels import MODALITIES, Modality


def tables() -> list[dict[Modality, dict[str, float]]]:
    return [draw_signals(np.random.default_rng([8, number])) for number in range(40)]


def test_contrasts_look_as_they_are_named() -> None:
    for table in tables():
        t1, t2, flair = (table[name] for name in ("t1", "t2", "flair"))
        assert t1["csf"] < t1["grey"] < t1["white"]
        assert t2["csf"] > t2["grey"] > t2["white"]
        assert flair["csf"] < flair["white"] < flair["grey"]
        assert table["t1ce"]["enhancing"] > table["t1ce"]["white"]
        assert flair["oedema"] > flair["white"]
        assert t2["oedema"] > t2["white"]
        assert t1["oedema"] < t1["white"]


def test_every_patient_has_a_table_of_his_own() -> None:
    oedema = [table["flair"]["oedema"] for table in tables()]
    assert np.std(oedema) > 0.05


def test_hyperintensities_overlap_with_oedema_in_flair() -> None:
    flair = [table["flair"] for table in tables()]
    brighter = np.mean([signals["hyperintensity"] > signals["oedema"] for signals in flair])
    assert 0.2 < brighter < 0.95


def test_the_magnitude_is_positive_and_noisy(subject: Subject) -> None:
    z, y, x = np.arange(60, 66), np.arange(100, 140), np.arange(100, 140)
    points = Points.box(z.astype(np.float32), y.astype(np.float32), x.astype(np.float32))
    scanner = Scanner(np.random.default_rng(1))
    flat = np.ones(points.mask.size, dtype=np.float32)
    for modality in MODALITIES:
        image = scanner.acquire(modality, points, flat, np.random.default_rng(2))
        again = scanner.acquire(modality, points, flat, np.random.default_rng(2))
        np.testing.assert_array_equal(image, again)
        assert image.dtype == np.float32
        assert image.min() >= 0
        spread = image[3, 10:-10, 10:-10].std() / image.mean()
        assert 0.002 < spread < 0.15


def test_oedema_is_bright_in_t2_and_flair_and_dark_in_t1(patients: list[PhantomPatient]) -> None:
    for patient in patients:
        brain = patient.images[0] > 0
        oedema = patient.labels == 2
        middle = [float(np.median(image[brain])) for image in patient.images]
        inside = [float(np.median(image[oedema])) for image in patient.images]
        t1, _, t2, flair = (found / usual for found, usual in zip(inside, middle, strict=True))
        assert t1 < 1.0
        assert t2 > 1.1
        assert flair > 1.0


def test_the_rim_is_bright_in_t1ce(patients: list[PhantomPatient]) -> None:
    for patient in patients:
        rim = patient.labels == 4
        if rim.sum() > 500:
            usual = np.median(patient.images[1][patient.images[1] > 0])
            assert np.median(patient.images[1][rim]) > 1.1 * usual


def test_planes_of_noise_are_normal_and_differ(rng: np.random.Generator) -> None:
    planes = list(_planes_of_noise(rng, (300, 200), 40))  # more values than are drawn
    assert all(plane.shape == (300, 200) for plane in planes)
    assert np.mean(planes) == pytest.approx(0, abs=0.01)
    assert np.std(planes) == pytest.approx(1, abs=0.01)
    first = planes[0].ravel()
    assert max(abs(np.corrcoef(first, plane.ravel())[0, 1]) for plane in planes[1:]) < 0.05
