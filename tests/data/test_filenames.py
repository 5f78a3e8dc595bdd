"""Names as data sets and tools make them, and what each of them says."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slicewise.data.filename_words import split_words
from slicewise.data.filenames import (
    ParsedName,
    case_from_folder,
    find_case_folder,
    is_mask_folder,
    is_mask_name,
    parse_filename,
    parse_patient,
    patient_from_folder,
)

TABLE = [
    # BraTS, as released and as unpacked
    ("BRATS_HG0001/BRATS_HG0001_FLAIR.nii", "BRATS_HG0001", "flair"),
    ("BRATS_HG0001/BRATS_HG0001_T1C.nii", "BRATS_HG0001", "t1ce"),
    ("BRATS_HG0001/BRATS_HG0001_truth.nii", "BRATS_HG0001", "mask"),
    ("brats_2013_pat0001_1/VSD.Brain.XX.O.MR_T1c.685/VSD.Brain.XX.O.MR_T1c.685.nii", "", "t1ce"),
    ("brats_2013_pat0001_1/VSD.Brain.XX.O.MR_Flair.684/VSD.Brain.XX.O.MR_Flair.684.nii", "", "flair"),
    ("brats_tcia_pat100_0001/VSD.Brain_3more.XX.O.OT.42266/VSD.Brain_3more.XX.O.OT.42266.nii", "", "mask"),
    ("Brats17_TCIA_192_1/Brats17_TCIA_192_1_t1ce.nii.gz", "Brats17_TCIA_192_1", "t1ce"),
    ("Brats18_2013_21_1/Brats18_2013_21_1_t2.nii.gz", "Brats18_2013_21_1", "t2"),
    ("BraTS19_CBICA_AAB_1/BraTS19_CBICA_AAB_1_seg.nii.gz", "BraTS19_CBICA_AAB_1", "mask"),
    ("BraTS20_Training_001/BraTS20_Training_001_flair.nii", "BraTS20_Training_001", "flair"),
    ("BraTS20_Training_355/W39_1998.09.19_Segm.nii", "W39_1998.09.19", "mask"),
    ("Brats18_CBICA_AAG_1/Brats18_CBICA_AAG_1_flair.nii/1_brain_flair.nii", "Brats18_CBICA_AAG_1", "flair"),
    ("BraTS2021_00006/BraTS2021_00006_t1ce.nii.gz", "BraTS2021_00006", "t1ce"),
    ("BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1c.nii.gz", "BraTS-GLI-00000-000", "t1ce"),
    ("BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1n.nii.gz", "BraTS-GLI-00000-000", "t1"),
    ("BraTS-GLI-02062-100/BraTS-GLI-02062-100-t2w.nii.gz", "BraTS-GLI-02062-100", "t2"),
    ("BraTS-MET-00089-001/BraTS-MET-00089-001-t2f.nii.gz", "BraTS-MET-00089-001", "flair"),
    ("BraTS-PED-00001-000/BraTS-PED-00001-000-seg.nii.gz", "BraTS-PED-00001-000", "mask"),
    ("BraTS-SSA-00002-000/BraTS-SSA-00002-000-t1n.nii.gz", "BraTS-SSA-00002-000", "t1"),
    ("BraTS-MEN-RT-0000-1/BraTS-MEN-RT-0000-1_gtv.nii.gz", "BraTS-MEN-RT-0000-1", "mask"),
    ("BraTS-MEN-RT-0000-1/BraTS-MEN-RT-0000-1_t1c.nii.gz", "BraTS-MEN-RT-0000-1", "t1ce"),
    # other public sets
    ("UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_T1c.nii.gz", "UCSF-PDGM-0004", "t1ce"),
    ("UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_FLAIR_bias.nii.gz", "UCSF-PDGM-0004", "flair"),
    ("UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_tumor_segmentation.nii.gz", "UCSF-PDGM-0004", "mask"),
    ("UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_brain_segmentation.nii.gz", "UCSF-PDGM-0004", "other"),
    ("UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_brain_parenchyma_segmentation.nii.gz", "UCSF-PDGM-0004", "other"),
    ("UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_SWI_bias.nii.gz", "UCSF-PDGM-0004", "other"),
    ("UCSF-PDGM-0004_nifti/UCSF-PDGM-0004_ASL.nii.gz", "UCSF-PDGM-0004", "other"),
    ("UPENN-GBM-00001_11/UPENN-GBM-00001_11_T1GD.nii.gz", "UPENN-GBM-00001_11", "t1ce"),
    ("UPENN-GBM-00001_11/UPENN-GBM-00001_11_T2_unstripped.nii.gz", "UPENN-GBM-00001_11", "t2"),
    ("images_segm/UPENN-GBM-00001_11_segm.nii.gz", "UPENN-GBM-00001_11", "mask"),
    ("automated_segm/UPENN-GBM-00001_11_automated_approx_segm.nii.gz", "UPENN-GBM-00001_11", "mask"),
    ("EGD-0001/2_T1GD/NIFTI/T1GD.nii.gz", "", "t1ce"),
    ("EGD-0001/5_MASK/NIFTI/MASK.nii.gz", "", "mask"),
    ("Patient-001/week-000-1/CT1.nii.gz", "", "t1ce"),
    ("Patient-001/week-000-1/CT1_r2s_bet_reg.nii.gz", "", "t1ce"),
    ("IvyGAP/W1/W1_1996.10.14_t1gd_LPS_r_SSFinal.nii.gz", "W1_1996.10.14", "t1ce"),
    ("ReMIND-001-Preop-3D_AX_T1_postcontrast.nii.gz", "ReMIND-001-Preop", "t1ce"),
    ("ReMIND-001-Preop-2D_AX_T2_FLAIR.nii.gz", "ReMIND-001-Preop", "flair"),
    ("ReMIND-001-Preop-3D_AX_T2_SPACE.nii.gz", "ReMIND-001-Preop", "t2"),
    ("TCGA-02-0003/TCGA-02-0003_1997.06.08_t1Gd.nii.gz", "TCGA-02-0003_1997.06.08", "t1ce"),
    ("TCGA-02-0003_1997.06.08_GlistrBoost_ManuallyCorrected.nii.gz", "TCGA-02-0003_1997.06.08", "mask"),
    ("P_T1_BrainExtractionMask.nii.gz", "P", "other"),
    ("brainTumorMask_SRI.nii.gz", "", "mask"),
    ("brainMask_SRI.nii.gz", "", "other"),
    ("FL_to_SRI_brain.nii.gz", "", "flair"),
    ("PatientID_0003_Timepoint_1_brain_t1c.nii.gz", "PatientID_0003_Timepoint_1", "t1ce"),
    ("PatientID_0003_Timepoint_1_tumorMask.nii.gz", "PatientID_0003_Timepoint_1", "mask"),
    ("Task01_BrainTumour/imagesTr/BRATS_001.nii.gz", None, None),
    ("Task01_BrainTumour/labelsTr/BRATS_001.nii.gz", "BRATS_001", "mask"),
    ("LGG-104/LGG-104_T2.nii.gz", "LGG-104", "t2"),
    # BIDS
    ("sub-01/anat/sub-01_T1w.nii.gz", "sub-01", "t1"),
    ("sub-01/anat/sub-01_ce-gadolinium_T1w.nii.gz", "sub-01", "t1ce"),
    ("sub-01/ses-02/anat/sub-01_ses-02_acq-mprage_ce-GADOLINIUM_run-1_T1w.nii.gz", "sub-01_ses-02", "t1ce"),
    ("sub-01/anat/sub-01_acq-postcontrast_T1w.nii.gz", "sub-01", "t1ce"),
    ("sub-01/anat/sub-01_ce-none_T1w.nii.gz", "sub-01", "t1"),
    ("sub-01/anat/sub-01_acq-T2sel_FLAIR.nii.gz", "sub-01", "flair"),
    ("sub-T2/anat/sub-T2_FLAIR.nii.gz", "sub-T2", "flair"),
    ("sub-01/anat/sub-01_space-MNI152NLin2009cAsym_desc-preproc_T1w.nii.gz", "sub-01", "t1"),
    ("sub-01/anat/sub-01_space-T1w_desc-tumor_dseg.nii.gz", "sub-01", "mask"),
    ("sub-01/anat/sub-01_label-lesion_roi.nii.gz", "sub-01", "mask"),
    ("sub-01/anat/sub-01_desc-brain_mask.nii.gz", "sub-01", "other"),
    ("sub-01/anat/sub-01_label-GM_probseg.nii.gz", "sub-01", "other"),
    # tools
    ("P03_t1_bet.nii.gz", "P03", "t1"),
    ("P03_flair_bet.nii.gz", "P03", "flair"),
    ("P03_t1_bet_mask.nii.gz", "P03", "other"),
    ("P_T1_brain.nii.gz", "P", "t1"),
    ("P_T1_brain_mask.nii.gz", "P", "other"),
    ("P_T1_brain_skull.nii.gz", "P", "other"),
    ("P_T1_brain_pve_0.nii.gz", "P", "other"),
    ("P_T1_brain_pveseg.nii.gz", "P", "other"),
    ("P_T1_brain_mixeltype.nii.gz", "P", "other"),
    ("P_T1_restore.nii.gz", "P", "t1"),
    ("P_T1_skull_stripped.nii.gz", "P", "t1"),
    ("P_T1_skullstripped_N4_norm.nii.gz", "P", "t1"),
    ("P_T1_to_SRI_brain.nii.gz", "P", "t1"),
    ("P_T1CE_raw_rai_n4.nii.gz", "P", "t1ce"),
    ("P_T1_raw_rai_n4_T1CE_reg.nii.gz", None, None),
    ("P_FLAIR_to_T1.nii.gz", "P", "flair"),
    ("P_FLAIR_to_T1_Gd.nii.gz", "P", "flair"),
    ("P_flair2t1ce.nii.gz", "P", "flair"),
    ("P_T2_reg_T1ce_bet.nii.gz", "P", "t2"),
    ("P_T2_resampled_1mm.nii.gz", "P", "t2"),
    ("P_T1_LPS.nii.gz", "P", "t1"),
    ("rT1.nii", "", "t1"),
    ("5_t1_mprage_sag_p2_iso.nii.gz", "5", "t1"),
    ("t1_mprage_sag_p2_iso_20190101_5.nii.gz", "", "t1"),
    ("Smith_t2_tirm_tra_dark-fluid_4.nii.gz", "Smith", "flair"),
    ("Ax_T2_FLAIR_601.nii.gz", "", "flair"),
    ("Smith_SWI_Images_7.nii.gz", "Smith", "other"),
    # contrast
    ("P01_T1.nii", "P01", "t1"),
    ("P01_T1ce.nii", "P01", "t1ce"),
    ("P01_T2_FLAIR.nii", "P01", "flair"),
    ("P01_FL.nii", "P01", "flair"),
    ("P02_T1_Gd.nii", "P02", "t1ce"),
    ("P02_T1-post.nii", "P02", "t1ce"),
    ("P02_T1+C.nii", "P02", "t1ce"),
    ("P02_T1C+.nii", "P02", "t1ce"),
    ("P02_Gd_T1.nii", "P02", "t1ce"),
    ("P02_T1wCE.nii", "P02", "t1ce"),
    ("P02_3DT1Gd.nii", "P02", "t1ce"),
    ("P02_T1_pre.nii", "P02", "t1"),
    ("P02_T1_non_contrast.nii", "P02", "t1"),
    ("P02_mprage(post).nii", "P02", "t1ce"),
    ("P02_MPRAGE.nii", "P02", "t1"),
    ("smith T1 post.nii", "smith", "t1ce"),
    ("axial t2 smith.nii.gz", "smith", "t2"),
    ("P_FLAIR_post.nii", "P", "flair"),
    ("P_T2star.nii", "P", "other"),
    ("P_T1map.nii", "P", "other"),
    # masks
    ("P_lesion.nii", "P", "mask"),
    ("P_T1ce_tumour_roi.nii", "P", "mask"),
    ("P_brain_tumor_seg.nii", "P", "mask"),
    ("P_ventricles_seg.nii", "P", "other"),
    ("P_wm_mask.nii", "P", "other"),
    ("P_tumor_probability.nii", "P", "other"),
    ("P_ground_truth.nii", "P", "mask"),
    # patients whose names hold such words
    ("T2-001_flair.nii.gz", "T2-001", "flair"),
    ("T2-001/T2-001_T1.nii.gz", "T2-001", "t1"),
    ("P_seg_01_t1.nii.gz", "P_seg_01", "t1"),
    ("P_seg_01/P_seg_01_seg.nii.gz", "P_seg_01", "mask"),
    ("flairpatient_t1.nii", "flairpatient", "t1"),
    ("glioma_t1.nii", "glioma", "t1"),
    ("R_t1.nii", "R", "t1"),
    ("brain_001_seg.nii", "brain_001", "mask"),
    # layouts by folder
    ("FLAIR/P01.nii.gz", "P01", "flair"),
    ("P01/T1/P01_T1.nii.gz", "P01", "t1"),
    ("Smith/T1ce.nii.gz", "", "t1ce"),
    ("张伟_t1.nii", "张伟", "t1"),
]


def test_the_table_is_large_enough() -> None:
    assert len({name for name, _, _ in TABLE}) == len(TABLE) > 100


@pytest.mark.parametrize(("name", "case", "kind"), TABLE)
def test_names_of_data_sets_and_tools_are_read(name: str, case: str | None, kind: str | None) -> None:
    read = parse_filename(Path(name))
    assert read.kind == kind
    if case is not None:
        assert read.case == case
    assert read.sure or not case or kind == "other" or read.number, "what has a case of its own is sure"


@pytest.mark.parametrize(
    ("name", "candidates"),
    [
        ("T1_post_op.nii", ("t1", "t1ce")),
        ("P01_post_T1.nii", ("t1", "t1ce")),
        ("x_t1_t2.nii", ("t1", "t2")),
        ("P_T1_FLAIR.nii", ("flair", "t1")),
        ("P_gd.nii", ("t1ce",)),
        ("P_T1_raw_JD_T2.x.nii", ("t1", "t2")),
    ],
)
def test_a_name_that_says_several_things_is_in_doubt(name: str, candidates: tuple[str, ...]) -> None:
    read = parse_filename(Path(name))
    assert (read.kind, read.candidates) == (None, candidates)


@pytest.mark.parametrize("name", ["T2-001.nii.gz", "T2-001/T2-001.nii.gz", "P_seg_01.nii.gz", "seg_P01.nii"])
def test_a_word_that_may_belong_to_the_patient_is_not_sure(name: str) -> None:
    assert not parse_filename(Path(name)).sure


@pytest.mark.parametrize("name", ["scan.nii", "flairpatient.nii", "readme.nii", "x_t3.nii", "segovia.nii"])
def test_other_names_say_nothing(name: str) -> None:
    read = parse_filename(Path(name))
    assert (read.kind, read.candidates, read.case) == (None, (), Path(name).stem)


@given(
    st.from_regex(r"[A-Za-z0-9]+([-_][A-Za-z0-9]+){0,4}", fullmatch=True).filter(
        lambda name: split_words(name)[-1].tag == "unknown" and not name.lower().startswith("vsd")
    ),
    st.sampled_from(
        [
            ("t1", "t1"),
            ("t1n", "t1"),
            ("t1ce", "t1ce"),
            ("t1c", "t1ce"),
            ("t2", "t2"),
            ("t2w", "t2"),
            ("flair", "flair"),
            ("t2f", "flair"),
            ("seg", "mask"),
        ]
    ),
    st.sampled_from("-_"),
    st.sampled_from([".nii", ".nii.gz", ".NII.GZ"]),
    st.booleans(),
)
def test_what_stands_before_the_modality_names_the_case(
    case: str, what: tuple[str, str], joint: str, ending: str, upper: bool
) -> None:
    suffix, kind = what
    name = parse_filename(Path(f"{case}{joint}{suffix.upper() if upper else suffix}{ending}"))
    assert (name.case, name.kind, name.sure) == (case, kind, True)


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("Brats18_2013_21_1", "Brats18_2013_21"),
        ("BraTS19_TCIA10_152_1", "BraTS19_TCIA10_152"),
        ("Brats18_CBICA_AAB_1", "Brats18_CBICA_AAB"),
        ("brats_2013_pat0001_1", "brats_2013_pat0001"),
        ("BraTS20_Training_001", "BraTS20_Training_001"),
        ("BraTS2021_00006", "BraTS2021_00006"),
        ("BraTS-GLI-00000-000", "BraTS-GLI-00000"),
        ("BraTS-MET-00089-001", "BraTS-MET-00089"),
        ("BraTS-MEN-RT-0000-1", "BraTS-MEN-RT-0000"),
        ("UPENN-GBM-00001_21", "UPENN-GBM-00001"),
        ("UCSF-PDGM-0409_FU003d", "UCSF-PDGM-0409"),
        ("PatientID_0003_Timepoint_1", "PatientID_0003"),
        ("sub-01_ses-02", "sub-01"),
        ("sub-01_ses-preop", "sub-01"),
        ("TCGA-02-0003_1997.06.08", "TCGA-02-0003"),
        ("P01_v2", "P01"),
        ("P01_postop", "P01"),
        ("ABC_20191234", "ABC_20191234"),
        ("Phantom_00012", "Phantom_00012"),
    ],
)
def test_the_patient_is_the_case_without_its_visit(case: str, patient: str) -> None:
    assert parse_patient(case) == patient


@pytest.mark.parametrize(
    ("path", "home", "case", "patient"),
    [
        ("EGD-0001/2_T1GD/NIFTI/T1GD.nii.gz", "EGD-0001", "EGD-0001", "EGD-0001"),
        (
            "Patient-001/week-000-1/T1.nii.gz",
            "Patient-001/week-000-1",
            "Patient-001_week-000-1",
            "Patient-001",
        ),
        ("P1/preop/t1.nii", "P1/preop", "P1_preop", "P1"),
        ("P1/2019-03-01/t1.nii", "P1/2019-03-01", "P1_2019-03-01", "P1"),
        ("Smith/t1.nii", "Smith", "Smith", "Smith"),
        (
            "brats_2013_pat0001_1/VSD.Brain.XX.O.MR_T1c.685/VSD.Brain.XX.O.MR_T1c.685.nii",
            "brats_2013_pat0001_1",
            "brats_2013_pat0001_1",
            "brats_2013_pat0001",
        ),
    ],
)
def test_a_folder_names_the_case_of_files_that_do_not(path: str, home: str, case: str, patient: str) -> None:
    root = Path("/data/set")
    found = find_case_folder(root / path, parse_filename(root / path), root)
    assert found == root / home
    assert (case_from_folder(found), patient_from_folder(found)) == (case, patient)


def test_no_folder_above_the_data_set_is_looked_at() -> None:
    path = Path("/data/T1/t1.nii")
    assert find_case_folder(path, parse_filename(path), Path("/data/T1")) == Path("/data/T1")


@pytest.mark.parametrize(
    ("stem", "is_mask"),
    [
        ("Y0_mask", True), ("Y0_seg", True), ("Y0_label", True), ("Y0-gt", True), ("Y0 overlay", True),
        ("Y0_pred", True), ("Y0_Segmentation", True), ("Y0mask", False), ("Y0", False), ("Y_tumor", False),
        ("pred0", False), ("gg (12)", False), ("masked_ball 3", False), ("glioma_1", False),
    ],
)  # fmt: skip
def test_masks_of_pictures_are_told_by_their_last_words(stem: str, is_mask: bool) -> None:
    assert is_mask_name(stem) == is_mask


@pytest.mark.parametrize(
    ("folder", "is_mask"),
    [
        ("masks", True), ("Labels", True), ("ground_truth", True), ("tumor_masks", True), ("yes", False),
        ("pred", False), ("glioma_tumor", False), ("Brain Tumor Segmentation 2", False), ("no_tumor", False),
    ],
)  # fmt: skip
def test_a_folder_of_masks_is_called_after_nothing_else(folder: str, is_mask: bool) -> None:
    assert is_mask_folder(folder) == is_mask


def test_what_tools_added_is_listed() -> None:
    assert parse_filename(Path("P_T1ce_bet_n4.nii")) == ParsedName("P", "t1ce", suffixes=("bet", "n4"))


def test_hostile_names_take_no_time() -> None:
    for name in ("into" * 60 + "!", "t1" * 120 + "q", "to" * 120 + "x", "2" * 200, "_" * 250, "a-" * 120):
        assert parse_filename(Path(f"{name}.nii")).kind in (None, "t1")
