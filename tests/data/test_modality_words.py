import pytest

from slicewise.data.modality_words import guess_modality, names_modality_alone


@pytest.mark.parametrize(
    ("name", "modality"),
    [
        ("BraTS20_Training_001_flair.nii.gz", "flair"),
        ("BraTS20_Training_001_t1ce.nii", "t1ce"),
        ("BraTS20_Training_001_t1.nii", "t1"),
        ("BraTS-GLI-00000-000-t1c.nii.gz", "t1ce"),
        ("BraTS-GLI-00000-000-t1n.nii.gz", "t1"),
        ("BraTS-GLI-00000-000-t2f.nii.gz", "flair"),
        ("BraTS-GLI-00000-000-t2w.nii.gz", "t2"),
        ("patient2_t1.nii.gz", "t1"),
        ("T1_cor.nii", "t1"),
        ("t1_cropped.nii.gz", "t1"),
        ("t1_gd.nii", "t1ce"),
        ("T1 post.nii", "t1ce"),
        ("sub-01_T1w.nii.gz", "t1"),
        ("T2_FLAIR.nii", "flair"),
        ("patient1.nii", None),
        ("t2patient.nii", None),
        ("x_t1_t2.nii", None),
        ("T1_post_op.nii", None),
        ("sub-01_ce-gadolinium_T1w.nii", None),
        ("scan.nii", None),
    ],
)
def test_the_modality_is_guessed_from_the_names_people_use(name: str, modality: str | None) -> None:
    assert guess_modality(name) == modality


@pytest.mark.parametrize(
    ("name", "alone"),
    [
        ("t1.nii.gz", True),
        ("FLAIR.nii", True),
        ("T2 FLAIR.nii", True),
        ("P1_t1.nii", False),
        ("scan.nii", False),
    ],
)
def test_a_name_of_one_modality_tells_no_patient(name: str, alone: bool) -> None:
    assert names_modality_alone(name) == alone
