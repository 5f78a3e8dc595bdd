import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from slicewise.data.phantom import patients as module
from slicewise.data.phantom.patients import (
    PhantomPatient,
    Subject,
    materialise_patients,
    patient_name,
    write_patient,
)
from slicewise.domain.labels import MODALITIES

NUMBER, SEED = 1, 0
LARGE_BRAIN = 6


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, patients: list[PhantomPatient]) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "generate_patient", lambda number, _seed: patients[number])
        return write_patient(tmp_path_factory.mktemp("phantom"), NUMBER, SEED)


def best_threshold_dice(flair: np.ndarray[Any, Any], tumour: np.ndarray[Any, Any]) -> float:
    """Return the Dice of the best of all thresholds on FLAIR [N], chosen with the reference [N] in hand."""
    hits = np.cumsum(tumour[np.argsort(-flair, kind="stable")])
    return float((2 * hits / (np.arange(1, hits.size + 1) + hits[-1])).max())


def coarse_flair(number: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return FLAIR and the tumour of a patient at every fourth millimetre of the brain."""
    subject, rng = Subject((SEED, 0, number)), np.random.default_rng(number)
    points, tissue, scanner = subject.survey, subject.tissue, subject.scanner
    tumour, extras = subject.compartments(points, tissue), subject.mimics.at(points, tissue)
    signal = scanner.signal("flair", tissue, extras, tumour, scanner.textures(points))
    kept = subject.mimics.skull_stripped(points, tissue)
    return scanner.acquire("flair", points, signal, rng)[points.mask][kept], tumour.labels()[kept] > 0


def test_names_sort_by_number() -> None:
    assert patient_name(12) == "Phantom_00012"


def test_arrays_have_the_shape_of_brats(patients: list[PhantomPatient]) -> None:
    for patient in patients:
        assert patient.images.shape == (4, 155, 240, 240)
        assert patient.images.dtype == np.int16
        assert patient.labels.dtype == np.uint8
        assert set(np.unique(patient.labels)) <= {0, 1, 2, 4}
        assert (patient.labels > 0).sum() > 2000


def test_all_contrasts_share_one_brain(patients: list[PhantomPatient]) -> None:
    for patient in patients:
        brain = patient.images > 0
        assert (brain == brain[0]).all()
        assert 1.0e6 < brain[0].sum() < 2.2e6
        assert not patient.labels[~brain[0]].any()
        assert not brain[0][:, 0].any()
        assert not brain[0][:, :, -1].any()


def test_numbers_and_seeds_make_other_patients(patients: list[PhantomPatient]) -> None:
    assert (patients[0].images != patients[1].images).any()
    assert Subject((1, 0, 1)).brain.atrophy != Subject((0, 0, 1)).brain.atrophy


def test_no_threshold_on_flair_finds_the_tumours() -> None:
    scores = [best_threshold_dice(*coarse_flair(number)) for number in range(24)]
    assert np.mean(scores) <= 0.6


def test_full_volumes_are_as_hard_as_coarse_ones(patients: list[PhantomPatient]) -> None:
    for number in (0, 1):
        image, labels = patients[number].images[3], patients[number].labels
        score = best_threshold_dice(image[image > 0].astype(np.int32), labels[image > 0] > 0)
        assert score == pytest.approx(best_threshold_dice(*coarse_flair(number)), abs=0.15)


def test_the_folder_is_what_brats_has(written: Path) -> None:
    assert written.name == patient_name(NUMBER)
    expected = {f"{patient_name(NUMBER)}_{part}.nii.gz" for part in (*MODALITIES, "seg")}
    assert {path.name for path in written.iterdir()} == expected
    assert [path.name for path in written.parent.iterdir()] == [written.name]


def test_files_read_back_as_brats_does(written: Path, patients: list[PhantomPatient]) -> None:
    for name, array in (("flair", patients[NUMBER].images[3]), ("seg", patients[NUMBER].labels)):
        image: Any = nib.load(written / f"{patient_name(NUMBER)}_{name}.nii.gz")
        assert image.shape == (240, 240, 155)
        assert nib.aff2axcodes(image.affine) == ("L", "P", "S")
        assert image.header.get_zooms() == (1, 1, 1)
        assert image.header["sform_code"] == image.header["qform_code"] == 1
        assert image.get_data_dtype() == array.dtype
        np.testing.assert_array_equal(np.asanyarray(image.dataobj), array.T)


def test_other_processes_write_the_same_bytes(written: Path, tmp_path: Path) -> None:
    there = materialise_patients(tmp_path, [NUMBER - 1, NUMBER], SEED, 2)
    assert [path.name for path in there] == [patient_name(NUMBER - 1), patient_name(NUMBER)]
    for path in sorted(written.iterdir()):
        assert (there[1] / path.name).read_bytes() == path.read_bytes()


def test_a_written_patient_is_kept(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "generate_patient", lambda *_: pytest.fail("generated again"))
    assert write_patient(written.parent, NUMBER, SEED) == written


def test_what_a_killed_write_left_is_removed(
    tmp_path: Path, patients: list[PhantomPatient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "generate_patient", lambda *_: patients[0])
    left = tmp_path / ".Phantom_00000.partial"
    left.mkdir()
    (left / "Phantom_00000_t1.nii.gz").write_bytes(b"half")
    write_patient(tmp_path, 0, SEED)
    assert [path.name for path in tmp_path.iterdir()] == ["Phantom_00000"]


def test_a_failed_write_leaves_nothing(
    tmp_path: Path, patients: list[PhantomPatient], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, volume: np.ndarray[Any, Any]) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(module, "generate_patient", lambda *_: patients[0])
    monkeypatch.setattr(module, "_write_nifti", fail)
    with pytest.raises(OSError, match="no space"):
        write_patient(tmp_path, 0, SEED)
    assert list(tmp_path.iterdir()) == []


def test_a_worker_stays_below_700_mib(tmp_path: Path) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("this system does not report the peak memory of a process in /proc")
    code = (
        "from pathlib import Path; from slicewise.data.phantom.patients import write_patient; "
        f"write_patient(Path({str(tmp_path)!r}), {LARGE_BRAIN}, {SEED}); "
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(found.stdout) < 700 * 1024
