from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.imaging.ellipsoid import KEY, LPS, SHAPE, images, read_volume, tumour, volume, write_nifti

from slicewise.core.errors import VolumeError
from slicewise.domain.keys import CaseKey
from slicewise.imaging.io.nifti import write_nifti as save_mask
from slicewise.imaging.volume import Volume, read_nifti_case

DATA = Path(__file__).resolve().parents[2] / "../shared/data"


@pytest.fixture
def flair(tmp_path: Path) -> Path:
    return write_nifti(tmp_path / "flair.nii.gz", images()[3])


def test_a_case_fills_the_slots_of_its_modalities(tmp_path: Path, flair: Path) -> None:
    t1 = write_nifti(tmp_path / "t1.nii", images()[0])
    mask = write_nifti(tmp_path / "seg.nii.gz", np.where(tumour() == 3, 4, tumour()).astype(np.uint8))
    case = read_nifti_case(KEY, ("flair", "t1"), (flair, t1), mask)
    assert case.presence == (True, False, False, True)
    assert case.images.dtype == np.int16
    np.testing.assert_array_equal(case.images[[0, 3]], images()[[0, 3]])
    assert not case.images[1:3].any()
    assert case.mask is not None
    np.testing.assert_array_equal(case.mask, tumour())
    assert case.spacing == (2.0, 1.0, 1.0)


@pytest.mark.parametrize("axes", ["LPS", "RAS", "SAR", "PIL", "ASL"])
def test_every_orientation_gives_the_same_view(tmp_path: Path, flair: Path, axes: str) -> None:
    original = nib.load(flair)
    transform = nib.orientations.ornt_transform(
        nib.io_orientation(original.affine), nib.orientations.axcodes2ornt(tuple(axes))
    )
    turned = tmp_path / "turned.nii.gz"
    original.as_reoriented(transform).to_filename(turned)
    case = read_volume({"flair": turned})
    np.testing.assert_array_equal(case.images[3], images()[3])
    assert case.spacing == (2.0, 1.0, 1.0)

    assert case.orientation is not None
    save_mask(tmp_path / "mask.nii.gz", tumour(), case.orientation)
    saved = nib.load(tmp_path / "mask.nii.gz")
    assert saved.shape == nib.load(turned).shape
    np.testing.assert_allclose(saved.affine, nib.load(turned).affine)
    again = read_nifti_case(KEY, ("flair",), (turned,), tmp_path / "mask.nii.gz")
    assert again.mask is not None
    np.testing.assert_array_equal(again.mask, tumour())


def test_row_0_is_anterior_and_column_0_the_patients_right(tmp_path: Path) -> None:
    data = np.zeros((4, 5, 6), np.int16)
    data[3, 4, 5] = 7  # RAS+: the voxel furthest to the right, the front and the top
    nib.Nifti1Image(data, np.eye(4)).to_filename(tmp_path / "ras.nii")
    case = read_volume({"t1": tmp_path / "ras.nii"})
    assert case.shape == (6, 5, 4)
    assert case.images[0, 5, 0, 0] == 7


def test_scaling_and_byte_order_are_applied(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(np.dtype(">i2"))
    image = nib.Nifti1Image(images()[0].T.astype(">i2"), LPS, header)
    image.header.set_slope_inter(0.5, 3)
    (tmp_path / "scaled.nii").write_bytes(image.to_bytes())
    expected = nib.load(tmp_path / "scaled.nii").get_fdata().T
    case = read_volume({"t1": tmp_path / "scaled.nii"})
    assert case.images.dtype == np.float32
    np.testing.assert_allclose(case.images[0], expected, rtol=1e-6)


def test_files_of_different_types_meet_as_float32(tmp_path: Path, flair: Path) -> None:
    t2 = write_nifti(tmp_path / "t2.nii.gz", images()[2].astype(np.float32) / 2)
    case = read_volume({"flair": flair, "t2": t2})
    assert case.images.dtype == np.float32
    np.testing.assert_array_equal(case.images[3], images()[3])
    np.testing.assert_array_equal(case.images[2], images()[2] / np.float32(2))


def test_an_empty_image_leaves_its_slot_absent(tmp_path: Path, flair: Path) -> None:
    empty = write_nifti(tmp_path / "t1.nii", np.zeros(SHAPE, np.int16))
    assert read_volume({"flair": flair, "t1": empty}).presence == (False, False, False, True)
    with pytest.raises(VolumeError, match="every voxel is 0"):
        read_volume({"t1": empty})


def test_compression_is_told_by_content_not_by_name(tmp_path: Path, flair: Path) -> None:
    mislabelled = tmp_path / "really_gzip.nii"
    mislabelled.write_bytes(flair.read_bytes())
    np.testing.assert_array_equal(read_volume({"flair": mislabelled}).images[3], images()[3])


def test_a_truncated_file_is_named(tmp_path: Path, flair: Path) -> None:
    whole = flair.read_bytes()
    for length in (1, 30, len(whole) // 2, len(whole) - 1):
        flair.write_bytes(whole[:length])
        with pytest.raises(VolumeError, match=r"flair\.nii\.gz"):
            read_volume({"flair": flair})


def test_a_flipped_bit_is_found_by_the_checksum(flair: Path) -> None:
    damaged = bytearray(flair.read_bytes())
    damaged[-6] ^= 1
    flair.write_bytes(damaged)
    with pytest.raises(VolumeError, match="corrupt"):
        read_volume({"flair": flair})


def edited(path: Path, **fields: Any) -> None:
    header = nib.Nifti1Header(path.read_bytes()[:348])
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"magic": b"ni1"}, "NIfTI pair"),
        ({"dim": [3, 20000, 20000, 20000, 1, 1, 1, 1]}, "512 x 512 x 512"),
        ({"dim": [3, 60, -3, 20, 1, 1, 1, 1]}, r"scan\.nii"),
        ({"dim": [4, 60, 72, 10, 2, 1, 1, 1]}, "4-dimensional"),
        ({"datatype": 128, "bitpix": 24}, "type RGB"),
        ({"datatype": 999}, r"scan\.nii"),
        ({"sform_code": 1, "srow_x": [0, 0, 0, 0]}, "affine"),
    ],
)
def test_an_absurd_header_is_refused(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    path = write_nifti(tmp_path / "scan.nii", images()[0])
    edited(path, **fields)
    with pytest.raises(VolumeError, match=message):
        read_volume({"flair": path})


def test_what_can_be_mended_is_mended_in_silence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_nifti(tmp_path / "scan.nii", images()[0])
    edited(path, vox_offset=0, pixdim=[0, 1, 1, 2, 0, 0, 0, 0])
    np.testing.assert_array_equal(read_volume({"t1": path}).images[0], images()[0])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_background_and_said(tmp_path: Path, value: float) -> None:
    """As programs write them outside the brain; most of a volume may be so."""
    image = images()[0].astype(np.float32)
    outside = image == 0
    image[outside] = value
    case = read_volume({"t1": write_nifti(tmp_path / "nan.nii", image)})
    np.testing.assert_array_equal(case.images[0], images()[0])
    (note,) = case.remarks
    assert note == f"nan.nii: {outside.sum():,} voxels are NaN or infinite and count as background"


def test_a_volume_of_nan_is_refused(tmp_path: Path) -> None:
    image = np.full((20, 72, 60), np.nan, np.float32)
    image[3, 4, :5] = 1
    with pytest.raises(VolumeError, match=r"bad\.nii holds NaN or infinity in all but 5 voxels"):
        read_volume({"t1": write_nifti(tmp_path / "bad.nii", image)})


def test_files_on_different_grids_are_refused(tmp_path: Path, flair: Path) -> None:
    smaller = write_nifti(tmp_path / "t1.nii", images()[0, 1:])
    with pytest.raises(
        VolumeError, match=r"t1\.nii: 60 x 72 x 19 voxels where flair\S+ has 60 x 72 x 20; resample"
    ):
        read_volume({"flair": flair, "t1": smaller})


def turned(degrees: float) -> NDArray[Any]:
    """Return the affine of the files turned about the axis from the feet to the head."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn: NDArray[Any] = np.array([[cos, -sin, 0, 0], [sin, cos, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return np.asarray(turn @ LPS)


def test_files_with_voxels_of_other_sizes_are_refused(tmp_path: Path, flair: Path) -> None:
    coarse = LPS @ np.diag([2, 2, 2.5, 1])
    t1 = write_nifti(tmp_path / "t1.nii", images()[0], coarse)
    sizes = r"t1\.nii: voxels of 2 x 2 x 5 mm where flair\S+ has 1 x 1 x 2 mm, .*; resample"
    with pytest.raises(VolumeError, match=sizes):
        read_volume({"flair": flair, "t1": t1})
    mask = write_nifti(tmp_path / "seg.nii", tumour(), LPS @ np.diag([1, 1.02, 1, 1]))
    with pytest.raises(VolumeError, match=r"seg\.nii: voxels of"):
        read_nifti_case(KEY, ("flair",), (flair,), mask)


def test_files_that_lie_at_another_angle_are_refused(tmp_path: Path, flair: Path) -> None:
    t1 = write_nifti(tmp_path / "t1.nii", images()[0], turned(10))
    with pytest.raises(VolumeError, match=r"t1\.nii: rotated by 10\.0 degrees relative to flair.*; resample"):
        read_volume({"flair": flair, "t1": t1})


def test_headers_that_differ_by_rounding_are_one_grid(tmp_path: Path, flair: Path) -> None:
    t1 = write_nifti(tmp_path / "t1.nii", images()[0], turned(0.5) @ np.diag([1.004, 1, 0.996, 1]))
    np.testing.assert_array_equal(read_volume({"flair": flair, "t1": t1}).images[0], images()[0])


def test_a_mask_that_would_be_mirrored_is_refused(tmp_path: Path, flair: Path) -> None:
    forgot_affine = write_nifti(tmp_path / "seg.nii", tumour(), np.diag([1, 1, 2, 1]))
    with pytest.raises(VolumeError, match=r"seg\.nii: .* axes run RAS where .* LPS"):
        read_nifti_case(KEY, ("flair",), (flair,), forgot_affine)


def test_a_mask_with_another_origin_is_read_voxel_by_voxel(tmp_path: Path, flair: Path) -> None:
    moved = LPS.copy()
    moved[:3, 3] = 0
    mask = write_nifti(tmp_path / "seg.nii", tumour(), moved)
    case = read_nifti_case(KEY, ("flair",), (flair,), mask)
    assert case.mask is not None
    np.testing.assert_array_equal(case.mask, tumour())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"gone\.nii: does not exist"):
        read_volume({"t1": tmp_path / "gone.nii"})
    with pytest.raises(VolumeError, match="at least one of t1"):
        read_volume({})


def test_a_volume_checks_that_its_arrays_fit() -> None:
    with pytest.raises(VolumeError, match="toy/p1/c1: mask"):
        volume(mask=tumour()[1:])
    with pytest.raises(VolumeError, match="correct the file"):
        volume(spacing=(1.0, 0.0, float("nan")))
    with pytest.raises(VolumeError, match="no modality"):
        volume(presence=(False,) * 4)
    with pytest.raises(VolumeError, match="not \\(4,"):
        volume(images=images()[:3])


@pytest.mark.parametrize("axes", ["RAS", "SAR"])
def test_files_of_one_grid_may_be_stored_along_other_axes(tmp_path: Path, flair: Path, axes: str) -> None:
    oblique = nib.load(write_nifti(tmp_path / "flair.nii", images()[3], turned(20)))
    own, wanted = nib.io_orientation(oblique.affine), nib.orientations.axcodes2ornt(tuple(axes))
    stored = oblique.as_reoriented(nib.orientations.ornt_transform(own, wanted))
    stored.to_filename(tmp_path / "t1.nii")
    case = read_volume({"flair": tmp_path / "flair.nii", "t1": tmp_path / "t1.nii"})
    np.testing.assert_array_equal(case.images[0], case.images[3])


@pytest.mark.real_data
@pytest.mark.skipif(not (DATA / "brats").is_dir(), reason="the BraTS samples are not beside the checkout")
def test_brats_reads_as_nibabel_reads_it() -> None:
    folder = sorted((DATA / "brats").iterdir())[0]
    case: Volume = read_nifti_case(
        CaseKey("brats", folder.name, folder.name),
        ("t2",),
        (folder / f"{folder.name}_t2.nii.gz",),
        folder / f"{folder.name}_seg.nii.gz",
    )
    canonical = nib.as_closest_canonical(nib.load(folder / f"{folder.name}_t2.nii.gz"))
    np.testing.assert_array_equal(case.images[2], np.asanyarray(canonical.dataobj)[::-1, ::-1].T)
    assert case.mask is not None
    assert set(np.unique(case.mask)) <= {0, 1, 2, 3}
