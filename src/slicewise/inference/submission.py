"""Predictions as a submission file for a competition: run-length encoded masks in a CSV.

    ImageId,EncodedPixels            of one class; `ImageId,ClassId,EncodedPixels` of several
    cell_0001,3 2 8 1                pairs of start and length: pixels 3, 4 and 8
    cell_0002,                       an empty mask

Pixels are numbered from 1, down the first column and then the next ones (column-major), as Kaggle expects.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slicewise.core.errors import DataError
from slicewise.core.files import write_text
from slicewise.domain.classes import Classes
from slicewise.domain.labels import SEGMENTATION, Task
from slicewise.inference.prediction import Prediction

_RUNS: Final = re.compile(r"\s*(\d+\s+\d+(\s+\d+\s+\d+)*)?\s*", re.ASCII)
Row = tuple[str, ...]


def encode_mask(mask: ArrayLike) -> str:
    """Return a mask [row, col] as `start length start length ...`; empty text for an empty mask.

    Inside is anything but 0.
    """
    inside = np.asarray(mask) != 0
    padded = np.pad(inside.ravel(order="F"), 1)
    edges = np.flatnonzero(padded[1:] != padded[:-1]) + 1
    edges[1::2] -= edges[::2]
    return " ".join(map(str, edges.tolist()))


def decode_mask(runs: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask of (rows, columns) that `encode_mask` wrote.

    Raises:
        DataError: the text is no list of runs, or these overlap or reach beyond the image.
    """
    if not _RUNS.fullmatch(runs):
        raise DataError(f"{runs[:40]!r} is no run-length encoding; expected pairs `start length ...`")
    pairs = np.array(runs.split(), np.int64).reshape(-1, 2)
    starts, ends = pairs[:, 0] - 1, pairs.sum(axis=1) - 1
    size = shape[0] * shape[1]
    if pairs.size and (pairs.min() < 1 or ends.max() > size or (starts[1:] < ends[:-1]).any()):
        raise DataError(
            f"the runs {runs[:40]!r} overlap, are not sorted, or reach beyond the {size} pixels of "
            f"{shape[0]} x {shape[1]}; is this the size of the image?"
        )
    pixels = np.zeros(size, np.bool_)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        pixels[start:end] = True
    return pixels.reshape(shape, order="F")


def submission_rows(prediction: Prediction) -> Iterator[Row]:
    """Yield the lines of a case: one for each image and class.

    The ID of a picture is the name of its case, of a slice of a volume `<case>_<slice>`, from 0 on. Without
    masks the line has the verdict.
    """
    if prediction.masks is None:
        yield prediction.case, prediction.predicted_class or ""
        return
    several = len(prediction.classes) > 1
    for index, masks in enumerate(prediction.masks.swapaxes(0, 1)):
        name = prediction.case if prediction.kind == "picture" else f"{prediction.case}_{index:03d}"
        for number, mask in enumerate(masks, 1):
            yield name, *([str(number)] if several else []), encode_mask(mask)


def write_submission(path: Path | str, rows: Iterable[Row], tasks: Sequence[Task], classes: Classes) -> None:
    """Write a submission file atomically.

    Args:
        path: of the CSV.
        rows: `submission_rows` of each prediction.
        tasks: of the model, as `Pipeline.tasks`.
        classes: of a pixel, as `Pipeline.classes`.
    """
    columns: tuple[str, ...] = ("ImageId", "Label")
    if SEGMENTATION in tasks:
        columns = ("ImageId", *(["ClassId"] if len(classes) > 1 else []), "EncodedPixels")
    stream = io.StringIO(newline="")
    table: Any = csv.writer(stream, lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
    write_text(Path(path), stream.getvalue())
