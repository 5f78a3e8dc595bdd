from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.data.sources.class_folders import label_folders, parse_label


@given(st.sampled_from(["yes", "tumor", "brain tumour", "glioma_tumor", "Meningioma", "Positive"]), st.data())
def test_folders_with_tumours(name: str, data: st.DataObject) -> None:
    decorated = "".join(data.draw(st.sampled_from([c.lower(), c.upper(), f"{c}_"])) for c in name)
    assert parse_label(decorated) == 1


@pytest.mark.parametrize(
    "name", ["Brain Tumor Images", "brain_glioma", "Glioma MRI", "class_1_tumor", "positiv"]
)
def test_words_that_say_nothing_hide_no_tumour(name: str) -> None:
    assert parse_label(name) == 1


@pytest.mark.parametrize(
    "name",
    [
        "no", "No", "no_tumor", "notumor", "non-tumour", "Healthy", "normal", "NO TUMOR", "Healthy Brain",
        "normal brain", "Normal brain MRI", "no_tumor_images", "No Tumor MRI", "no brain tumour",
        "negativ", "negative cases",
    ],
)  # fmt: skip
def test_folders_without(name: str) -> None:
    assert parse_label(name) == 0


@pytest.mark.parametrize(
    "name",
    [
        "pred", "Training", "brain_tumor_dataset", "images", "", "nothing", "notes", "abnormal", "unhealthy",
        "no_mri", "Patient No 12", "Brain MRI", "normalised images", "Brain Tumor Segmentation",
        "tumor_vs_normal", "not normal",
    ],
)  # fmt: skip
def test_folders_that_say_nothing(name: str) -> None:
    assert parse_label(name) is None


@pytest.mark.parametrize(
    ("folders", "label"),
    [
        (["yes", "no"], 1),
        (["Training/glioma_tumor", "Training/no_tumor", "Testing/no_tumor"], 1),
        (["yes/axial", "yes/coronal", "no/axial"], 1),
        (["Tumor/glioma/axial", "Normal/axial"], 1),
        (["Brain Tumor/Healthy", "Brain Tumor/Brain Tumor"], 0),
        (["Brain Tumor", "Brain Tumor/no_tumor"], 1),
        (["Brain Tumor/other", "Brain Tumor/glioma", "Brain Tumor/no_tumor"], None),
        (["Brain Tumor/other/axial", "Brain Tumor/no_tumor/axial"], None),
        (["Testing", "Training/yes"], None),
        (["pred/yes", "yes"], None),
        (["yes/pred", "yes"], None),
        ([".", "no"], None),
    ],
)
def test_the_nearest_folder_decides_unless_it_names_the_set(folders: list[str], label: int | None) -> None:
    """The label that is looked at is that of the first folder."""
    assert label_folders({Path(folder) for folder in folders})[Path(folders[0])] == label


TYPES = ("glioma", "meningioma", "none", "pituitary")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("glioma_tumor", 0), ("Gliomas", 0), ("Brain Glioma MRI", 0), ("meningioma", 1), ("no_tumor", 2),
        ("notumor", 2), ("None", 2), ("healthy", 2), ("pituitary_tumor", 3), ("tumor", None), ("yes", None),
        ("Training", None),
    ],
)  # fmt: skip
def test_folders_of_several_classes(name: str, label: int | None) -> None:
    assert parse_label(name, TYPES) == label


def test_folders_of_any_names() -> None:
    shapes = ("type_1", "type_2", "star")
    assert [parse_label(name, shapes) for name in ("Type 1", "type2", "stars", "type")] == [0, 1, 2, None]
    assert [parse_label(name, ("healthy", "ill")) for name in ("yes", "ill", "no", "Healthy")] == [1, 1, 0, 0]
