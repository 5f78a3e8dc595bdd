"""Headers are read, repaired and refused as nibabel does."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from slicewise.imaging.io import nifti_fields as fields

KINDS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
SILENT = logging.Logger("nibabel", logging.CRITICAL)


def damaged(rng: np.random.Generator, size: int, changes: int) -> bytes:
    """Return a header with a rotated grid, of any byte order, and some bytes changed."""
    header, affine = KINDS[size](), np.eye(4)
    header.set_data_dtype((np.uint8, np.int16, np.float32)[rng.integers(3)])
    header.set_data_shape(tuple(rng.integers(1, 9, 3).tolist()))
    affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.5, 3, 3)
    affine[:3, 3] = rng.normal(size=3) * 50
    header.set_qform(affine, int(rng.integers(3)))
    header.set_sform(affine, int(rng.integers(3)))
    block = bytearray((header.as_byteswapped() if rng.integers(4) == 0 else header).binaryblock)
    for _ in range(changes):
        block[int(rng.integers(4, size))] = int(rng.integers(256))
    return bytes(block)


def outcome(function: Callable[[], Any]) -> Any:
    try:
        return function()
    except Exception as error:
        return f"refused: {error}"


@pytest.mark.parametrize("size", KINDS)
def test_the_layout_and_a_new_header_are_those_of_nibabel(size: int) -> None:
    header = KINDS[size]()
    assert fields.LAYOUTS[size] == header.template_dtype
    header.set_data_dtype(np.int16)
    header.set_data_shape((3, 4, 5))
    header["vox_offset"] = header.single_vox_offset
    assert fields.blank(size, np.dtype(np.int16), (3, 4, 5)).tobytes() == bytes(header.binaryblock)


@pytest.mark.parametrize("code", sorted(map(int, nib.nifti1.data_type_codes.value_set("code"))))
def test_the_types_of_voxels_are_those_of_nibabel(code: int) -> None:
    name, kind = fields.TYPES[code]
    assert name == nib.nifti1.data_type_codes.label[code]
    theirs = np.dtype(nib.nifti1.data_type_codes.dtype[code])
    assert (np.dtype(kind).kind, np.dtype(kind).itemsize) == (theirs.kind, theirs.itemsize)


@pytest.mark.parametrize("size", KINDS)
@pytest.mark.parametrize("changes", [0, 2, 5])
def test_any_header_is_read_and_refused_alike(size: int, changes: int) -> None:
    rng, read = np.random.default_rng(changes), 0
    with np.errstate(all="ignore"):
        for _ in range(200):
            block = damaged(rng, size, changes)
            theirs, ours = KINDS[size](block, check=False), fields.parse(block)
            assert ours.dtype == theirs.structarr.dtype
            if int(theirs["datatype"]) not in fields.TYPES or np.dtype(theirs.get_data_dtype()).kind == "V":
                continue  # refused before
            fixed = theirs.copy()
            refused = outcome(partial(fixed.check_fix, SILENT))
            mine = outcome(partial(fields.repaired, ours))
            assert refused == (mine if isinstance(mine, str) else None)
            if refused is None:
                read += _compare(fixed, mine)
    assert read > 50


def _compare(theirs: Any, ours: fields.Header) -> bool:
    scale = outcome(theirs.get_slope_inter)
    assert outcome(partial(fields.scale, ours)) == ((1.0, 0.0) if scale == (None, None) else scale)
    shape = outcome(theirs.get_data_shape)
    if len(shape) < 3 or shape[:3] != fields.data_shape(ours)[:3]:  # a surface of FreeSurfer
        return False
    pairs = (
        (theirs.get_best_affine, fields.best_affine),
        (theirs.get_sform, fields.sform),
        (theirs.get_qform, fields.qform),
    )
    for expected, function in pairs:
        np.testing.assert_array_equal(outcome(partial(function, ours)), outcome(expected))
    return True
