"""The command on DICOM series: the mask of the same volume in NIfTI, and what it says and writes."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.fixtures.dicom import Series

from slicewise.cli.main import main
from slicewise.core.files import read_json
from slicewise.inference.pipeline import Pipeline
from slicewise.models.checkpoint import Checkpoint, save_checkpoint

CHECKPOINT = Path("checkpoints/multitask_joint/best_model.pth")
LPS_TO_RAS = np.diag([-1.0, -1, 1, 1])
SECRETS = ("secret", "19700101", "12345")


@pytest.fixture
def workspace(checkpoint: Checkpoint, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "w" / CHECKPOINT, checkpoint)
    return tmp_path / "w"


def head() -> NDArray[np.int16]:
    """A ball of tissue with a bright spot, [slice, row, col]."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in (12, 48, 40)), indexing="ij")
    noise = np.random.default_rng(0).standard_normal(x.shape)
    brain = (x**2 + y**2 + z**2 < 0.8) * (400 + 40 * noise)
    return (brain + ((x - 0.3) ** 2 + y**2 + z**2 < 0.06) * 300).astype(np.int16)


def patient() -> list[Series]:
    """Two series on an oblique grid that runs from head to foot, and one on another grid."""
    turn = np.radians(12)
    plane: dict[str, Any] = {
        "along_row": np.array([-np.cos(turn), np.sin(turn), 0]),
        "along_column": np.array([np.sin(turn), np.cos(turn), 0]),
        "step": np.array([0, 0, -4.0]),
    }
    tags = {"AccessionNumber": "12345"}
    return [
        Series(head(), description="AX T1", number=2, spacing=(1.2, 1.5), tags=tags, **plane),
        Series(head() + 7, description="AX FLAIR", number=3, spacing=(1.2, 1.5), tags=tags, **plane),
        Series(head()[:5], description="SAG T2", number=4, tags=tags),
    ]


def predict(workspace: Path, *words: object) -> int:
    return main(["predict", "--workspace", str(workspace), *map(str, words), "runtime.device=cpu"])


def threshold(workspace: Path, folder: Path) -> str:
    """One that a third of the brain reaches: the model is not trained."""
    maps = Pipeline.load(workspace / CHECKPOINT, device="cpu").predict(folder).probability_maps
    assert maps is not None
    return f"evaluation.mask_threshold={np.quantile(maps[maps > 0], 0.67):.4f}"


def rows(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as stream:
        return {row["case"]: row for row in csv.DictReader(stream)}


@pytest.mark.parametrize("enhanced", [False, True])
def test_a_study_has_the_mask_of_the_same_volumes_in_nifti(
    workspace: Path, tmp_path: Path, enhanced: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    order = np.random.default_rng(1).permutation(12).tolist()
    for series in patient():
        here = order if len(series.voxels) == 12 else None
        if enhanced:
            series.write_enhanced(tmp_path / "anna" / f"{series.number}.dcm", order=here)
        else:
            series.write(tmp_path / "anna" / str(series.number), order=here)
    for series, name in zip(patient(), ("t1", "flair"), strict=False):
        affine = LPS_TO_RAS @ series.affine()
        (tmp_path / "berta").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(series.voxels.T, affine), tmp_path / "berta" / f"{name}.nii.gz")
    third = threshold(workspace, tmp_path / "berta")
    assert predict(workspace, tmp_path / "anna", "--out", tmp_path / "a", third) == 0
    shown = capsys.readouterr().out
    assert predict(workspace, tmp_path / "berta", "--out", tmp_path / "b", third) == 0
    ours, theirs = (nib.load(next((tmp_path / each).glob("*_mask.nii.gz"))) for each in "ab")
    # Slices are stored along the normal, here against the order of the NIfTI file.
    masks = [nib.as_closest_canonical(each) for each in (ours, theirs)]
    np.testing.assert_array_equal(np.asarray(masks[0].dataobj), np.asarray(masks[1].dataobj))
    np.testing.assert_allclose(masks[0].affine, masks[1].affine, atol=1e-4)
    assert 100 < np.count_nonzero(np.asarray(ours.dataobj)) < ours.shape[0] * ours.shape[1] * 8
    for line in (
        'anna: t1: series 2 "AX T1", 12 slices, by SeriesDescription "AX T1"',
        'anna: flair: series 3 "AX FLAIR", 12 slices',
        'anna: t2: series 4 "SAG T2" is left out: 40 x 48 x 5 voxels where series 2 "AX T1" has',
    ):
        assert line in shown
    row = rows(tmp_path / "a" / "predictions.csv")["anna"]
    assert (row["modalities"], row["dicom_seg"]) == ("t1 flair", "anna_seg.dcm")
    told = shown + (tmp_path / "a" / "predictions.json").read_text() + str(row)
    assert not [secret for secret in SECRETS if secret in told]
    segmentation = pydicom.dcmread(tmp_path / "a" / "anna_seg.dcm")
    assert segmentation.pixel_array.sum() == np.count_nonzero(np.asarray(ours.dataobj))
    referenced = {item.SeriesInstanceUID for item in segmentation.ReferencedSeriesSequence}
    assert len(referenced) == 2
    assert segmentation.PatientID == "secret"


def test_no_segmentation_is_written_where_it_is_not_wanted_or_has_no_dicom_source(
    workspace: Path, tmp_path: Path
) -> None:
    patient()[0].write(tmp_path / "a")
    assert predict(workspace, tmp_path / "a", "--no-dicom-seg", "--no-overlay", "--out", tmp_path / "o") == 0
    (case,) = read_json(tmp_path / "o" / "predictions.json")["cases"]
    assert case["dicom_seg"] is None
    assert [path.name for path in (tmp_path / "o").iterdir() if path.name.startswith("a_")] == [
        "a_mask.nii.gz"
    ]


def test_a_broken_series_fails_by_name_and_the_others_are_predicted(
    workspace: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    patient()[0].write(tmp_path / "in" / "good")
    bad = Series(head(), description="FLAIR", study="1.9")
    files = bad.write(tmp_path / "in" / "bad")
    files[4].write_bytes(files[4].read_bytes()[:-500])
    assert predict(workspace, tmp_path / "in", "--out", tmp_path / "o", "--no-overlay") == 1
    table = rows(tmp_path / "o" / "predictions.csv")
    assert (table["good"]["error"], table["good"]["mask"]) == ("", "good_mask.nii.gz")
    assert "IM0005: truncated or corrupt DICOM file" in table["bad"]["error"]
    assert "IM0005" in capsys.readouterr().err


def test_a_picture_is_predicted_without_loading_pydicom(workspace: Path, tmp_path: Path) -> None:
    Image.fromarray(head()[6].astype(np.uint8)).save(tmp_path / "x.png")
    words = ["predict", str(tmp_path / "x.png"), "--workspace", str(workspace), "runtime.device=cpu"]
    script = (
        f"import sys\nfrom slicewise.cli.main import main\nassert main({words!r}) == 0\n"
        "assert not {'pydicom', 'highdicom'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=120)
