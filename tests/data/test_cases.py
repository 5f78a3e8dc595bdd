from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from tests.fixtures.sources import discover

from slicewise.core.errors import PictureError, VolumeError
from slicewise.data.cases import CaseFiles
from slicewise.domain.keys import CaseKey
from slicewise.domain.labels import EDEMA, MODALITIES, Modality

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
KEY = CaseKey("lgg", "p", "c")
EXPECTED = {
    "TCGA_DU_6407": (True, False, False, True),
    "TCGA_DU_7301": (True, False, False, True),
    "TCGA_FG_7634": (True, False, False, True),
    "TCGA_FG_A60K": (False, False, False, True),
    "TCGA_HT_7877": (False, False, False, True),
    "TCGA_CS_4941": (True, True, False, True),
}


def save(path: Path, array: np.ndarray) -> Path:
    Image.fromarray(array).save(path)
    return path


def lgg_case(folder: Path, stack: np.ndarray, masks: np.ndarray) -> CaseFiles:
    images = tuple(save(folder / f"{n}.tif", image) for n, image in enumerate(stack))
    labels = tuple(save(folder / f"{n}_mask.tif", mask) for n, mask in enumerate(masks))
    return CaseFiles(KEY, "lgg", ("t1", "flair", "t1ce"), images, labels, None, "p")


def random_case(folder: Path, repeated: Sequence[int] = ()) -> tuple[CaseFiles, np.ndarray]:
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 256, (5, 32, 24, 3), np.uint8)
    stack[..., list(repeated)] = stack[..., 1:2]
    masks = np.zeros((5, 32, 24), np.uint8)
    masks[2, 8:16, 4:8] = 255
    return lgg_case(folder, stack, masks), stack


def test_lgg_channels_go_to_their_slots(tmp_path: Path) -> None:
    case, stack = random_case(tmp_path)
    volume = case.read()
    assert volume.presence == (True, True, False, True)
    for slot, channel in ((0, 0), (1, 2), (3, 1)):
        np.testing.assert_array_equal(volume.images[slot], stack[..., channel])
    assert not volume.images[2].any()
    assert volume.mask is not None
    assert volume.mask[2, 8:16, 4:8].min() == EDEMA
    assert np.count_nonzero(volume.mask) == 32


@pytest.mark.parametrize(
    ("repeated", "presence"),
    [
        ([0], (False, True, False, True)),
        ([2], (True, False, False, True)),
        ([0, 2], (False, False, False, True)),
    ],
)
def test_a_sequence_that_repeats_flair_is_missing(
    repeated: list[int], presence: tuple[bool, ...], tmp_path: Path
) -> None:
    case, _ = random_case(tmp_path, repeated)
    volume = case.read()
    assert volume.presence == presence
    assert [bool(image.any()) for image in volume.images] == list(presence)


def test_damaged_slices_are_named(tmp_path: Path) -> None:
    case, _ = random_case(tmp_path)
    whole = case.images[3].read_bytes()
    case.images[3].write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VolumeError, match=r"3\.tif is unreadable"):
        case.read()
    save(case.images[3], np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(VolumeError, match=r"3\.tif is \(16, 16, 3\)"):
        case.read()
    save(case.images[3], np.zeros((32, 24), np.uint8))
    with pytest.raises(VolumeError, match=r"3\.tif has mode L, not RGB"):
        case.read()


def test_masks_of_another_shape_are_refused(tmp_path: Path) -> None:
    case = lgg_case(tmp_path, np.ones((2, 32, 24, 3), np.uint8), np.zeros((2, 24, 32), np.uint8))
    with pytest.raises(VolumeError, match=r"masks are \(2, 24, 32\) and slices are \(2, 32, 24\)"):
        case.read()


def as_palette(mask: np.ndarray) -> Image.Image:
    image = Image.fromarray(mask, "P")
    image.putpalette([0, 0, 0, 200, 30, 30])
    return image


@pytest.mark.parametrize(
    "convert",
    [
        lambda mask: Image.fromarray(mask),
        lambda mask: Image.fromarray(mask * np.uint8(128)),
        lambda mask: Image.fromarray(mask * np.uint16(65535)),
        lambda mask: Image.fromarray(mask.astype(np.float32)),
        lambda mask: Image.fromarray(mask * np.uint8(255)).convert("1"),
        lambda mask: Image.fromarray(np.stack([mask * np.uint8(255), 0 * mask, 0 * mask], -1)),
        as_palette,
    ],
    ids=["0/1", "0/128", "0/65535", "float", "bilevel", "red", "palette"],
)
def test_masks_of_slices_are_read_however_they_were_saved(
    tmp_path: Path, convert: Callable[[np.ndarray], Image.Image]
) -> None:
    case, _ = random_case(tmp_path)
    expected = np.zeros((5, 32, 24), np.uint8)
    expected[2, 8:16, 4:8] = 1
    for path, mask in zip(case.masks, expected, strict=True):
        convert(mask).save(path)
    volume = case.read()
    assert volume.mask is not None
    np.testing.assert_array_equal(volume.mask, expected * EDEMA)
    assert volume.remarks == ()


def test_masks_of_slices_with_grey_edges_are_read_and_said(tmp_path: Path) -> None:
    case, _ = random_case(tmp_path)
    soft = np.zeros((32, 24), np.uint8)
    soft[8:16, 4:12], soft[7, 4:12] = 255, 90
    save(case.masks[2], soft)
    volume = case.read()
    assert volume.mask is not None
    assert np.count_nonzero(volume.mask) == 64
    assert "grey values" in volume.remarks[0]


@pytest.mark.parametrize("slot", MODALITIES)
def test_a_picture_fills_its_slot(slot: Modality, tmp_path: Path) -> None:
    ramp = np.add.outer(np.arange(32, dtype=np.uint8), np.arange(24, dtype=np.uint8))
    path = save(tmp_path / "x.png", ramp)
    volume = CaseFiles(KEY, "class_folders", (slot,), (path,), (), 1, "g").read()
    assert volume.shape == (1, 32, 24)
    assert volume.label == 1
    assert volume.mask is None
    assert [modality for modality, filled in zip(MODALITIES, volume.presence, strict=True) if filled] == [
        slot
    ]
    np.testing.assert_array_equal(volume.images[MODALITIES.index(slot), 0], ramp)


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"x")
    with pytest.raises(PictureError, match=r"x\.png"):
        CaseFiles(KEY, "class_folders", ("t1",), (tmp_path / "x.png",), (), 1, "g").read()


def test_nifti_is_read_with_and_without_a_mask(tmp_path: Path) -> None:
    array = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)
    for name, values in (("t1", array), ("seg", (array > 100).astype(np.uint8) * 4)):
        nib.save(nib.Nifti1Image(values, np.eye(4)), tmp_path / f"{name}.nii.gz")
    case = CaseFiles(KEY, "brats", ("t1",), (tmp_path / "t1.nii.gz",), (tmp_path / "seg.nii.gz",), None, "p")
    volume = case.read()
    assert volume.shape == (4, 5, 6)
    assert volume.mask is not None
    assert volume.mask.max() == 3
    unlabelled = CaseFiles(KEY, "brats", ("t1",), case.images, (), None, "p")
    assert unlabelled.read().mask is None


@pytest.mark.real_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="real data are not beside the checkout")
def test_real_lgg_patients_with_missing_sequences_are_recognised() -> None:
    cases, _ = discover("lgg", SHARED / "lgg/kaggle_3m", "lgg")
    presences = {case.key.patient: case.read().presence for case in cases if case.key.patient in EXPECTED}
    assert presences == EXPECTED
