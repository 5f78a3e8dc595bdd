"""Odd headers and files of other kinds: the same words from the check, the reader and so every way in."""

import bz2
import gzip
import io
import lzma
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from tests.imaging.ellipsoid import KEY, LPS, SHAPE, images, read_volume, tumour, write_nifti

from slicewise.core.errors import VolumeError
from slicewise.data.cases import CaseFiles, check_case
from slicewise.domain.labels import Modality
from slicewise.imaging.io.nifti import _inflate, _read_stream, read_nifti
from slicewise.imaging.io.nifti import write_nifti as save_mask
from slicewise.imaging.volume import Volume

GEOMETRY = (
    *("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)


def case_of(*paths: Path) -> CaseFiles:
    modalities: tuple[Modality, ...] = ("flair", "t1")
    return CaseFiles(KEY, "brats", modalities[: len(paths)], paths, (), None, "p1")


def refused(path: Path) -> str:
    """Return what is said about a file that cannot be used, once it is clear that all say the same."""
    (problem,) = check_case(case_of(path))
    assert problem.severity == "error"
    with pytest.raises(VolumeError) as caught:
        read_nifti(path)
    assert str(caught.value) == str(problem)
    assert str(caught.value).count(path.name) == 1
    return problem.what


def warned(path: Path) -> list[str]:
    problems = check_case(case_of(path))
    assert all(problem.severity == "warning" for problem in problems)
    return [problem.what for problem in problems]


def header_of(path: Path) -> Any:
    data = path.read_bytes()
    data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
    kind = nib.Nifti1Header if data[:2] in (b"\x5c\x01", b"\0\0") else nib.Nifti2Header
    return kind(data[: kind.sizeof_hdr], check=False)


def edited(path: Path, **fields: Any) -> Path:
    header = header_of(path)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(header.binaryblock + path.read_bytes()[header.sizeof_hdr :])
    return path


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_nifti(tmp_path / "X_flair.nii", images()[3])


def brain_ml(volume: Volume) -> float:
    return float((volume.images[3] > 0).sum() * np.prod(volume.spacing) / 1000)


# Files of other kinds


def picture(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (8, 8)).save(stream, kind)
    return stream.getvalue()


def archive(_: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("scan.nii", b"x")
    return stream.getvalue()


def tar(data: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        entry = tarfile.TarInfo("scan.nii")
        entry.size = len(data)
        file.addfile(entry, io.BytesIO(data))
    return stream.getvalue()


def analyze(_: bytes) -> bytes:
    header = nib.AnalyzeHeader()
    header.set_data_shape((4, 4, 4))
    return bytes(header.binaryblock)


def pair(data: bytes) -> bytes:
    return data[:344] + b"ni1\0" + data[348:]


def mgh(_: bytes) -> bytes:
    return bytes(nib.MGHImage(np.zeros((4, 4, 4), np.float32), np.eye(4)).to_bytes())


def numpy_array(_: bytes) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(200))
    return stream.getvalue()


KINDS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "zip": (archive, "a zip archive; unpack it"),
    "tar": (tar, "a tar archive; unpack it"),
    "bzip2": (bz2.compress, "a bzip2 archive; unpack it"),
    "xz": (lzma.compress, "an xz archive; unpack it"),
    "html": (lambda _: b"\n<!DOCTYPE html><html><title>Log in</title>", "an HTML page, as of a log-in"),
    "json": (lambda _: b'{"code": 403, "message": "forbidden"}', "JSON or XML text"),
    "xml": (lambda _: b'<?xml version="1.0"?><Error>AccessDenied</Error>', "JSON or XML text"),
    "zeros": (lambda data: bytes(len(data)), "a file of zeros"),
    "lfs": (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "run `git lfs pull`"),
    "annex": (lambda _: b"/annex/objects/MD5E-s10--d41d.nii.gz\n", "run `datalad get`"),
    "png": (lambda _: picture("png"), "a PNG picture; give it the suffix"),
    "jpeg": (lambda _: picture("jpeg"), "a JPEG picture"),
    "tiff": (lambda _: picture("tiff"), "a TIFF picture"),
    "pdf": (lambda _: b"%PDF-1.7 ...", "a PDF document"),
    "dicom": (lambda _: bytes(128) + b"DICM" + b"\2\0" * 300, "a DICOM file; convert the series"),
    "nrrd": (lambda _: b"NRRD0004\ntype: short\n", "an NRRD volume; convert it"),
    "mha": (lambda _: b"ObjectType = Image\nNDims = 3\n", "a MetaImage volume; convert it"),
    "hdf5": (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(500), "an HDF5 file"),
    "mgh": (mgh, "a FreeSurfer MGH volume; convert it"),
    "analyze": (analyze, "an Analyze 7.5 header; write header and image as one"),
    "pair": (pair, "the header of a NIfTI pair"),
    "numpy": (numpy_array, "a NumPy array"),
    "text": (lambda _: b"patient 7\n" * 100, "not a NIfTI file; convert it to .nii.gz"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize(("make", "words"), KINDS.values(), ids=list(KINDS))
def test_a_file_of_another_kind_is_called_what_it_is(
    scan: Path, make: Callable[[bytes], bytes], words: str, packed: bool
) -> None:
    content = make(scan.read_bytes())
    scan.write_bytes(gzip.compress(content) if packed else content)
    what = refused(scan)
    assert words in what
    assert "damaged" not in what
    assert ("its gzip holds" in what) is (packed and "not a NIfTI" not in what)


def test_gzip_in_gzip_and_gzip_of_nothing_say_so(scan: Path) -> None:
    scan.write_bytes(gzip.compress(gzip.compress(scan.read_bytes())))
    assert refused(scan).startswith("compressed with gzip twice; decompress it once")
    scan.write_bytes(gzip.compress(b""))
    assert refused(scan).startswith("gzip of an empty file")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_the_content_decides_whether_a_file_is_packed_and_of_which_version(
    tmp_path: Path, name: str, packed: bool, kind: Any
) -> None:
    data = kind(np.ascontiguousarray(images()[3].T), LPS).to_bytes()
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if packed else data)
    assert check_case(case_of(path)) == []
    np.testing.assert_array_equal(read_nifti(path).array, images()[3])


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((60, 72, 20, 4), "4-dimensional, 60 x 72 x 20 x 4: 4 volumes in one file; one file per modality"),
        ((60, 72, 20, 1, 3), "5-dimensional, 60 x 72 x 20 x 1 x 3: 3 volumes in one file"),
        ((60, 72), "2-dimensional, 60 x 72; a 3-D volume is needed"),
        ((1, 60, 72, 20), "4-dimensional, 1 x 60 x 72 x 20"),
    ],
)
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_files_that_hold_no_single_volume(
    tmp_path: Path, shape: tuple[int, ...], words: str, suffix: str
) -> None:
    path = tmp_path / f"all{suffix}"
    nib.Nifti1Image(np.zeros(shape, np.int16), LPS).to_filename(path)
    assert words in refused(path)


@pytest.mark.parametrize("ones", [1, 2])
def test_further_dimensions_of_one_are_no_matter(tmp_path: Path, ones: int) -> None:
    array = images()[3].T.reshape(*SHAPE[::-1], *[1] * ones)
    nib.Nifti1Image(array, LPS).to_filename(tmp_path / "a.nii.gz")
    assert check_case(case_of(tmp_path / "a.nii.gz")) == []
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii.gz").array, images()[3])


@pytest.mark.parametrize(
    ("code", "bits", "words"),
    [
        (32, 64, "type complex64; write their magnitude"),
        (1792, 128, "type complex128; write their magnitude"),
        (128, 24, "type RGB; it is a colour rendering"),
        (2304, 32, "type RGBA; it is a colour rendering"),
        (1536, 128, "type float128; convert them"),
        (1, 1, "type binary; convert them"),
        (999, 16, "data type 999 does not exist"),
    ],
)
def test_voxels_of_odd_types_are_named(scan: Path, code: int, bits: int, words: str) -> None:
    assert words in refused(edited(scan, datatype=code, bitpix=bits))


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_header_that_promises_more_than_the_file_holds(scan: Path, suffix: str) -> None:
    data = edited(scan, dim=[3, 60, 72, 4000, 1, 1, 1, 1]).read_bytes()
    path = scan.with_name(f"short.nii{suffix}")
    path.write_bytes(gzip.compress(data) if suffix else data)
    (problem,) = check_case(case_of(path))
    assert problem.what.startswith("truncated: its header promises 34,560,352 bytes and it holds ")
    with pytest.raises(VolumeError, match="truncated"):
        read_nifti(path)


def test_a_truncated_gzip_is_called_that(scan: Path) -> None:
    whole = gzip.compress(scan.read_bytes())
    for length in (len(whole) // 2, len(whole) - 1):
        scan.write_bytes(whole[:length])
        (problem,) = check_case(case_of(scan))
        assert problem.what.startswith("truncated or corrupt")
        assert "header" not in problem.what


@pytest.mark.parametrize("oddity", ["none", "members", "bytes behind the voxels", "padding", "a lying size"])
def test_libdeflate_and_a_stream_read_the_same(scan: Path, oddity: str) -> None:
    plain = scan.read_bytes()
    whole = gzip.compress(plain)
    odd = {
        "none": whole,
        "members": gzip.compress(plain[:9000]) + gzip.compress(plain[9000:]),
        "bytes behind the voxels": gzip.compress(plain + bytes(77)),
        "padding": whole + bytes(512),
        "a lying size": whole[:-4] + b"\xff\xff\xff\xff",
    }
    scan.write_bytes(odd[oddity])
    assert (_inflate(scan) is None) == (oddity != "none")
    if oddity == "a lying size":
        with pytest.raises(VolumeError, match="truncated or corrupt"):
            read_nifti(scan)
    else:
        _, raw = _read_stream(scan)
        read = read_nifti(scan)
        np.testing.assert_array_equal(read.array, read.orientation.to_radiological(raw))
        assert read.array.flags.writeable


def test_a_bomb_is_not_inflated_beyond_what_its_header_promises(scan: Path) -> None:
    scan.write_bytes(gzip.compress(scan.read_bytes() + bytes(64 << 20)))
    tracemalloc.start()
    read_nifti(scan)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20


def test_a_changed_voxel_fails_the_checksum(scan: Path) -> None:
    packed = bytearray(gzip.compress(scan.read_bytes(), 0))
    packed[-100] ^= 1
    scan.write_bytes(packed)
    with pytest.raises(VolumeError, match="truncated or corrupt"):
        read_nifti(scan)


def test_files_with_equal_headers_keep_their_own_names(scan: Path) -> None:
    other = scan.with_name("other.nii")
    other.write_bytes(scan.read_bytes())
    assert [read_nifti(path).path.name for path in (scan, other)] == [scan.name, "other.nii"]


# Units, codes and affines


@pytest.mark.parametrize(("code", "factor"), [(0, 1), (1, 1e-3), (2, 1), (3, 1e3), (3 | 8, 1e3), (6, 1)])
@pytest.mark.parametrize("form", ["sform", "qform", "pixdim"])
def test_lengths_are_turned_into_mm(scan: Path, code: int, factor: float, form: str) -> None:
    image = nib.Nifti1Image(images()[3].T, LPS)
    affine = np.diag([factor, factor, factor, 1]) @ LPS
    image.set_sform(affine, code=1 if form == "sform" else 0)
    image.set_qform(affine, code=1 if form == "qform" else 0)
    image.header["pixdim"][1:4] = np.array([1, 1, 2]) * factor
    image.to_filename(scan)
    edited(scan, xyzt_units=code)
    volume = read_volume({"flair": scan})
    np.testing.assert_allclose(volume.spacing, (2, 1, 1), rtol=1e-6)
    assert brain_ml(volume) == pytest.approx((images()[3] > 0).sum() * 2 / 1000, rel=1e-5)
    assert not any("xyzt_units" in what for what in warned(scan))


@pytest.mark.parametrize(("code", "unit"), [(1, "metres"), (3, "micrometres")])
def test_units_that_no_head_can_have_are_not_believed_and_that_is_said(
    scan: Path, code: int, unit: str
) -> None:
    edited(scan, xyzt_units=code)
    assert read_volume({"flair": scan}).spacing == (2, 1, 1)
    (what,) = warned(scan)
    assert f"voxels of 1 x 1 x 2 {unit} are implausible for MRI: read as mm" in what


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_lengths_of_no_scan_at_all_are_refused(scan: Path, factor: float) -> None:
    nib.Nifti1Image(images()[3].T, np.diag([factor, factor, factor, 1]) @ LPS).to_filename(scan)
    assert "mm are implausible for MRI; correct pixdim, sform and xyzt_units" in refused(scan)


def test_files_in_other_units_may_lie_on_one_grid(scan: Path) -> None:
    metres = np.diag([1e-3, 1e-3, 1e-3, 1]) @ LPS
    other = edited(write_nifti(scan.with_name("t1.nii"), images()[0], metres), xyzt_units=1)
    assert check_case(case_of(scan, other)) == []


def test_a_file_that_says_nothing_of_its_orientation_is_used_and_that_is_said(scan: Path) -> None:
    edited(scan, qform_code=0, sform_code=0)
    (what,) = warned(scan)
    assert "assumed to run to the left, front and top (LAS)" in what
    assert read_nifti(scan).orientation.axes == "LAS"


def test_a_pixdim_of_zero_is_assumed_to_be_one_mm_and_that_is_said(scan: Path) -> None:
    edited(scan, qform_code=1, sform_code=0, pixdim=[1, 1, 1, 0, 0, 0, 0, 0])
    (what,) = warned(scan)
    assert "pixdim 0" in what
    assert read_nifti(scan).spacing == (1, 1, 1)


def test_forms_that_disagree_are_told_and_the_sform_holds(scan: Path) -> None:
    edited(scan, qform_code=1)
    assert warned(scan) == []
    edited(scan, qoffset_x=20)
    (what,) = warned(scan)
    assert "qform and sform differ by up to 10.0 voxels: the sform is used" in what


def test_a_negative_pixdim_is_a_length(scan: Path) -> None:
    edited(scan, pixdim=[1, -1, -1, -2, 0, 0, 0, 0])
    assert warned(scan) == []
    edited(scan, sform_code=0, qform_code=1)
    assert read_nifti(scan).spacing == (2, 1, 1)


def test_affines_that_map_no_volume_name_the_form(scan: Path) -> None:
    edited(scan, srow_y=[np.nan, 0, 0, 0])
    assert "its affine (sform) holds NaN" in refused(scan)
    edited(scan, srow_y=[0, 0, 0, 0])
    assert "its affine (sform) maps no volume" in refused(scan)
    edited(scan, srow_y=[-1, 0, 0, 0])
    assert "its affine (sform)" in refused(scan)


@pytest.mark.parametrize(
    ("degrees", "usable"), [(0, True), (1, True), (4.9, True), (5.1, False), (30, False)]
)
def test_a_sheared_affine_is_refused_where_lengths_would_lie(
    scan: Path, degrees: float, usable: bool
) -> None:
    slope = np.tan(np.radians(degrees))
    shear = np.array([[1, 0, slope, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    write_nifti(scan, images()[3], shear @ LPS)
    if usable:
        assert warned(scan) == []
        exact = abs(np.linalg.det(read_nifti(scan).orientation.matrix()[:3, :3]))
        assert np.prod(read_nifti(scan).spacing) == pytest.approx(exact, rel=0.012)
    else:
        assert f"sheared: axes miss the right angle by {degrees:.1f} degrees" in refused(scan)


# What is written


def geometry(path: Path) -> dict[str, bytes]:
    header = header_of(path)
    return {
        field: np.asarray(header[field]).astype(header[field].dtype.newbyteorder("<")).tobytes()
        for field in GEOMETRY
    }


FORMS: dict[str, dict[str, Any]] = {
    "as nibabel writes": {},
    "both forms": {"qform_code": 1, "sform_code": 2},
    "qform alone": {"qform_code": 1, "sform_code": 0},
    "neither": {"qform_code": 0, "sform_code": 0},
    "mni": {"qform_code": 1, "sform_code": 4, "srow_x": [-1, 0.01, 0, 29]},
    "negative pixdim": {"pixdim": [-1, -1, -1, 2, 3, 0, 0, 0]},
    "zero pixdim": {"pixdim": [0, 1, 1, 0, 0, 0, 0, 0]},
    "micrometres": {
        "xyzt_units": 3,
        "srow_x": [-1e3, 0, 0, 0],
        "srow_y": [0, -1e3, 0, 0],
        "srow_z": [0, 0, 2e3, 0],
    },
    "metres that are mm": {"xyzt_units": 1 | 8},
}


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize("fields", FORMS.values(), ids=list(FORMS))
@pytest.mark.parametrize("axes", [LPS, np.diag([1.0, 1, 2, 1])])
def test_a_mask_has_the_geometry_of_its_scan_bit_by_bit(
    tmp_path: Path, kind: Any, fields: dict[str, Any], axes: Any
) -> None:
    scan = tmp_path / "scan.nii"
    kind(np.ascontiguousarray(images()[3].T), axes).to_filename(scan)
    edited(scan, **fields)
    volume = read_volume({"flair": scan})
    assert volume.orientation is not None
    save_mask(tmp_path / "mask.nii.gz", (volume.images[3] > 0).astype(np.uint8), volume.orientation)
    assert geometry(tmp_path / "mask.nii.gz") == geometry(scan)
    mask, image = nib.load(tmp_path / "mask.nii.gz"), nib.load(scan)
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(mask.affine, image.affine)
    np.testing.assert_array_equal(mask.get_fdata(), image.get_fdata() > 0)


def test_a_mask_of_a_scan_in_the_other_byte_order(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    nib.Nifti1Image(images()[3].T.astype(">i2"), LPS, header).to_filename(tmp_path / "scan.nii")
    volume = read_volume({"flair": tmp_path / "scan.nii"})
    assert volume.orientation is not None
    save_mask(tmp_path / "mask.nii.gz", tumour(), volume.orientation)
    assert geometry(tmp_path / "mask.nii.gz") == geometry(tmp_path / "scan.nii")
    np.testing.assert_array_equal(nib.load(tmp_path / "mask.nii.gz").get_fdata().T, tumour())
