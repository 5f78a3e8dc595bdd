"""Run-length encoded masks, and the CSV of a submission."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from tests.inference.test_several_classes import NAMES, model

from slicewise.core.errors import DataError
from slicewise.inference.submission import decode_mask, encode_mask, submission_rows, write_submission
from slicewise.models.checkpoint import Checkpoint

MASKS = arrays(np.bool_, st.tuples(st.integers(1, 23), st.integers(1, 17)))


def decode_as_on_kaggle(runs: str, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode pixel by pixel; the pixel p from 1 on lies in row (p - 1) % rows and column (p - 1) // rows."""
    mask = np.zeros(shape, np.uint8)
    numbers = iter(runs.split())
    for start in numbers:
        for pixel in range(int(start), int(start) + int(next(numbers))):
            mask[(pixel - 1) % shape[0], (pixel - 1) // shape[0]] += 1
    return mask


@given(MASKS)
def test_a_mask_survives_both_decoders(mask: NDArray[np.bool_]) -> None:
    runs = encode_mask(mask)
    height, width = mask.shape
    np.testing.assert_array_equal(decode_mask(runs, (height, width)), mask)
    np.testing.assert_array_equal(decode_as_on_kaggle(runs, (height, width)), mask)
    starts, lengths = (np.array(runs.split()[place::2], int) for place in (0, 1))
    assert (starts[1:] > (starts + lengths)[:-1]).all(), "runs that touch are one"


def test_pixels_are_numbered_down_the_columns_from_1() -> None:
    assert encode_mask([[0, 1, 1], [0, 1, 0]]) == "3 3"
    assert encode_mask(np.zeros((4, 5))) == ""
    assert not decode_mask("", (4, 5)).any()
    assert encode_mask(np.full((4, 5), 255)) == "1 20"


@pytest.mark.parametrize("runs", ["3", "0 2", "1 0", "1 2 2 1", "5 1 1 1", "19 3", "1 x", "-1 2", "1.5 2"])
def test_what_are_no_runs_of_this_image_is_refused(runs: str) -> None:
    with pytest.raises(DataError, match=r"no run-length encoding|reach beyond the 20 pixels of 4 x 5"):
        decode_mask(runs, (4, 5))


def test_each_image_and_class_has_a_line(
    checkpoint: Checkpoint, picture_path: Path, volume_path: Path, tmp_path: Path
) -> None:
    found = model(checkpoint, exclusive=True)
    picture, volume = found.predict(picture_path), found.predict(volume_path, channels="flair")
    path = tmp_path / "submission.csv"
    rows = [*submission_rows(picture), *submission_rows(volume)]
    write_submission(path, rows, (*found.tasks,), found.classes)
    with path.open(encoding="utf-8", newline="") as stream:
        header, *lines = csv.reader(stream)
    assert header == ["ImageId", "ClassId", "EncodedPixels"]
    assert picture.masks is not None
    assert volume.masks is not None
    assert len(lines) == len(NAMES) * (1 + volume.masks.shape[1])
    slices = {
        (f"{volume.case}_{index:03d}", str(number)): volume.masks[number - 1, index]
        for index in range(volume.masks.shape[1])
        for number in (1, 2)
    }
    slices |= {(picture.case, str(number)): picture.masks[number - 1, 0] for number in (1, 2)}
    assert len(slices) == len(lines)
    for name, number, runs in lines:
        mask = slices[name, number]
        np.testing.assert_array_equal(decode_as_on_kaggle(runs, mask.shape), mask)
