from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter
from tests.fixtures.small_model import PREPROCESSING

from slicewise.data.reference import compare_with_training, describe_training, known_patients
from slicewise.data.store import SliceStore, StoredCase
from slicewise.domain.keys import CaseKey
from slicewise.domain.reference import TrainingReference
from slicewise.imaging.slicing import extract_slices
from slicewise.imaging.volume import volume_from_array


@pytest.fixture
def cases(tmp_path: Path) -> list[StoredCase]:
    """Volumes of patients A to F, and a picture."""
    store, made = SliceStore(tmp_path), []
    for place, name in enumerate("ABCDEF"):
        rng = np.random.default_rng(place)
        image = np.zeros((6, 70, 60), np.float32)
        image[:, 8:60, 8:50] = 50 + 40 * rng.random((6, 52, 42))
        volume = volume_from_array(image, "flair", (2.0, 1.0, 1.0), "flair", PREPROCESSING.channels)
        sliced = extract_slices(volume, PREPROCESSING)
        sliced = replace(sliced, key=CaseKey("brats", name, name), labels=(np.arange(6) == 2).astype(np.int8))
        store.write(f"brats/{name}", sliced, name)
        made.append(store.open(f"brats/{name}"))
    return made


def test_patients_are_known_by_name_and_by_images_and_no_name_is_stored(cases: list[StoredCase]) -> None:
    reference = describe_training(cases[:4], "a salt")
    stored = TypeAdapter(TrainingReference).validate_python(asdict(reference))
    assert stored == reference
    assert not {"A", "a"} & {*reference.patients[0].names}
    renamed = replace(cases[1], key=CaseKey("other", "X", "X"), group="X")
    namesake = replace(cases[5], key=CaseKey("other", "a", "a"), group="a")
    assert known_patients(stored, [renamed, namesake, cases[4]]) == {
        ("other", "X"): "the same images",
        ("other", "a"): "the same name",
    }
    other = describe_training(cases[:4], "another salt")
    assert not {*other.patients[0].contents} & {*reference.patients[0].contents}


def test_the_patients_of_the_model_before_are_remembered_once(cases: list[StoredCase]) -> None:
    first = describe_training(cases[:3], "stage 1")
    same = describe_training(cases[:3], "stage 2", first)
    assert len(same.patients) == 1
    others = describe_training(cases[3:5], "another run", first)
    assert len(others.patients) == 2
    assert {*known_patients(others, cases)} == {("brats", name) for name in "ABCDE"}


def test_what_differs_is_told(cases: list[StoredCase]) -> None:
    reference = describe_training(cases[:4], "salt")
    alike = compare_with_training(reference, cases[:4])
    assert not any(row.notable for row in alike)
    thick = [replace(case, slice_mm=6.0, labels=np.ones(6, np.int8)) for case in cases[4:]]
    rows = {row.what: row for row in compare_with_training(reference, thick)}
    assert {what for what, row in rows.items() if row.notable} >= {
        "slice spacing, mm",
        "slices with a tumour",
    }
    assert rows["slice spacing, mm"].describe() == (
        "volumes, slice spacing, mm: 6, training 2; 100% of the cases are outside"
    )
    assert not rows["rows, pixels"].notable
