from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from tests.imaging.ellipsoid import KEY, SHAPE, images, tumour, write_nifti

from slicewise.core.errors import VolumeError
from slicewise.domain.labels import EDEMA, LABEL_FORMATS, LabelMap
from slicewise.imaging.mask_values import decode_labels, decode_tumour
from slicewise.imaging.volume import read_nifti_case

SOFT = np.add.outer(np.linspace(0, 255, 16), np.zeros((1, 1))).reshape(1, 4, 4).astype(np.uint8)


def read(folder: Path, values: NDArray[Any], label_map: LabelMap | None = None) -> NDArray[np.uint8]:
    """Read a mask from a file, beside an image."""
    flair = write_nifti(folder / "flair.nii", images()[3])
    case = read_nifti_case(KEY, ("flair",), (flair,), write_nifti(folder / "seg.nii", values), label_map)
    assert case.mask is not None
    return case.mask


def spread(*values: float, kind: str = "u1") -> NDArray[Any]:
    return np.resize(np.array(values, kind), SHAPE)


@pytest.mark.parametrize("kind", ["u1", "i2", "f4", "f8"])
def test_labels_are_read_whatever_they_are_stored_as(tmp_path: Path, kind: str) -> None:
    np.testing.assert_array_equal(read(tmp_path, spread(0, 1, 2, 4, kind=kind)), spread(0, 1, 2, 3))
    np.testing.assert_array_equal(read(tmp_path, tumour().astype(kind)), tumour())


@pytest.mark.parametrize("labels", [(0, 1), (0, 1, 2), (0, 1, 2, 4), (0, 1, 2, 3), (0, 2), (0, 4)])
def test_labels_that_were_saved_with_a_scale_are_those_labels(
    tmp_path: Path, labels: tuple[int, ...]
) -> None:
    """`get_fdata` is float64 and the header still says uint8: nibabel then stores 1 as 1.0039."""
    original = nib.load(write_nifti(tmp_path / "seg.nii", spread(*labels)))
    again = nib.Nifti1Image(original.get_fdata(), original.affine, original.header)
    again.to_filename(tmp_path / "again.nii")
    stored = nib.load(tmp_path / "again.nii")
    assert stored.dataobj.slope != 1, "the file is what it should be"
    flair = write_nifti(tmp_path / "flair.nii", images()[3])
    found = read_nifti_case(KEY, ("flair",), (flair,), tmp_path / "again.nii").mask
    expected = read_nifti_case(KEY, ("flair",), (flair,), tmp_path / "seg.nii").mask
    assert found is not None
    assert expected is not None
    np.testing.assert_array_equal(found, expected)
    assert found.any()


@pytest.mark.parametrize(
    ("value", "step"), [(1.0039, 0.0157), (1.9922, 0.0157), (0.996, 0.0157), (2.0001, 0)]
)
def test_a_value_within_a_step_of_a_label_is_that_label(value: float, step: float) -> None:
    mask = decode_labels(Path("seg.nii"), spread(0, value, kind="f4"), step)
    np.testing.assert_array_equal(mask, spread(0, round(value)))


@pytest.mark.parametrize("high", [255, 65535, 7])
def test_background_and_one_other_value_are_a_whole_tumour(tmp_path: Path, high: int) -> None:
    np.testing.assert_array_equal(read(tmp_path, spread(0, high, kind="u2")), spread(0, EDEMA))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0, -1), "-1, 0"),
        ((0, 0.5), "0, 0.5"),
        ((0, 1.5, 3), "0, 1.5, 3"),
        ((0, 10, 150), "0, 10, 150"),
        (tuple(np.linspace(0, 1, 40)), r"0, 0\.025641.*40 values"),
        ((0, 1e9, 3), "1e\\+09"),
    ],
)
def test_other_values_are_refused_by_name(tmp_path: Path, values: tuple[float, ...], said: str) -> None:
    with pytest.raises(VolumeError, match=rf"seg\.nii holds .*{said}"):
        read(tmp_path, spread(*values, kind="f4"))


def test_3_and_4_may_mean_several_things_and_the_formats_are_named(tmp_path: Path) -> None:
    with pytest.raises(
        VolumeError, match=r"data\.sources\.volumes\.labels.*brats2015.*brats_ped.*brats2024"
    ) as error:
        read(tmp_path, spread(0, 1, 3, 4))
    assert "make" not in str(error.value), "nothing is to be deleted from a mask"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("brats2015", (0, 1, 2, 1, 3)),
        ("brats2024", (0, 1, 2, 3, 0)),
        ("brats_ped", (0, 3, 1, 1, 2)),
    ],
)
def test_formats_say_what_the_values_mean(tmp_path: Path, name: str, expected: tuple[int, ...]) -> None:
    mask = read(tmp_path, spread(0, 1, 2, 3, 4), LABEL_FORMATS[name])
    np.testing.assert_array_equal(mask, spread(*expected))


def test_a_map_of_ones_own(tmp_path: Path) -> None:
    mask = read(tmp_path, spread(0, 10, 150), ((10, 1), (150, 3)))
    np.testing.assert_array_equal(mask, spread(0, 1, 3))
    with pytest.raises(VolumeError, match="holds 0, 10, 150, and 150 is no label of its format"):
        read(tmp_path, spread(0, 10, 150), ((10, 1),))


def test_a_4_in_names_of_2023_is_not_taken_for_enhancing(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match=r"4 is no label of its format.*brats2024"):
        read(tmp_path, spread(0, 1, 4), LABEL_FORMATS["brats2023"])


@pytest.mark.parametrize("high", [1, 128, 255, 65535])
def test_masks_of_pictures_are_background_and_one_value(high: int) -> None:
    values = spread(0, high, 0, kind="u2")
    mask, remark = decode_tumour(Path("p"), values)
    np.testing.assert_array_equal(mask, values > 0)
    assert remark is None


def test_grey_edges_are_cut_at_half_and_said() -> None:
    values = np.zeros((2, 32, 32), np.uint8)
    values[1, 8:20, 8:20] = 255
    values[1, 7, 8:20], values[1, 20, 8:20] = 100, 200
    mask, remark = decode_tumour(Path("p"), values)
    np.testing.assert_array_equal(mask, values >= 200)
    assert "from half of 255 on" in str(remark)


@pytest.mark.parametrize(
    "values", [spread(0, 1, 2, 3), spread(255), spread(1, 255), SOFT, spread(0, 1, 1, 1, 255)]
)
def test_masks_of_pictures_with_other_values_are_refused(values: NDArray[Any]) -> None:
    with pytest.raises(VolumeError, match=r"p: masks hold .*expected 0 and one other value"):
        decode_tumour(Path("p"), values)


def test_an_empty_mask_is_one() -> None:
    mask, remark = decode_tumour(Path("p"), np.zeros((1, 4, 4), np.uint8))
    assert not mask.any()
    assert remark is None
