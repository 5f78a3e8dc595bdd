"""Preprocessing of a patient, against nibabel with float64 and one compressed file per slice.

It is also measured against the bare inflation of its files by libdeflate, which no reader can do without.
"""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import deflate
import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from benchmarks.bench import Bench
from benchmarks.measure import Aim, Row, alternate, share, shorter_is_better
from slicewise.data.cases import CaseFiles
from slicewise.data.store import StoredCase

NAME = "preprocess"
AIM = Aim(">=", 12)
INFLATION = Aim("<=", 1.7)


def run(bench: Bench) -> list[Row]:
    """Time every patient each way, with one thread, each time into an empty folder."""
    side = bench.config.preprocessing.image_size
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        seconds = alternate(
            {
                "ours": _in_empty_folder(bench.folder / "ours", lambda root: _ours(bench, root)),
                "usual": _in_empty_folder(
                    bench.folder / "usual", lambda root: _usual(bench.cases, bench.slices, side, root)
                ),
                "inflation": lambda: _inflate(bench.cases),
            },
            bench.size.repeats,
        )
    finally:
        cv2.setNumThreads(threads)
    num = len(bench.cases)
    ours, usual, bare = ([each / num for each in seconds[name]] for name in ("ours", "usual", "inflation"))
    slices = sum(len(stored.indices) for stored in bench.slices) // num
    what = f"a patient to {slices} slices of {side} x {side}, against get_fdata and savez_compressed"
    inflation = "a patient, against the bare inflation of its files by libdeflate"
    return [
        shorter_is_better(NAME, what, ours, usual, AIM),
        share(NAME, inflation, "s", ours, bare, INFLATION),
    ]


def _in_empty_folder(root: Path, work: Callable[[Path], None]) -> Callable[[], None]:
    def run_in_empty_folder() -> None:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        work(root)

    return run_in_empty_folder


def _ours(bench: Bench, root: Path) -> None:
    for case in bench.cases:
        bench.preprocess(case, root)


def _inflate(cases: Sequence[CaseFiles]) -> None:
    for case in cases:
        for path in case.files:
            deflate.gzip_decompress(path.read_bytes())


def _usual(cases: Sequence[CaseFiles], slices: Sequence[StoredCase], side: int, root: Path) -> None:
    for case, stored in zip(cases, slices, strict=True):
        usual_preprocess(case, stored, side, root)


def usual_preprocess(case: CaseFiles, stored: StoredCase, side: int, root: Path) -> None:
    """Slice one case in the usual way, with our slices and crop box, so with the same pixels."""
    volumes = [_z_score(_load(path)) for path in case.images]
    mask = _load(case.masks[0])
    box = stored.geometry
    rows, cols = slice(max(box.top, 0), box.top + box.height), slice(max(box.left, 0), box.left + box.width)
    for index in stored.indices:
        parts = [volume[cols, rows, index] for volume in volumes]
        image = np.stack([cv2.resize(part, (side, side), interpolation=cv2.INTER_AREA) for part in parts])
        labels = cv2.resize(mask[cols, rows, index], (side, side), interpolation=cv2.INTER_NEAREST)
        path = root / f"{case.key.case}_{index:03d}.npz"
        np.savez_compressed(path, image=image.astype(np.float32), mask=labels.astype(np.uint8))


def _load(path: Path) -> NDArray[np.float64]:
    voxels: NDArray[Any] = nib.load(path).get_fdata()
    return voxels


def _z_score(volume: NDArray[np.float64]) -> NDArray[np.float64]:
    brain = volume > 0
    scaled = np.zeros_like(volume)
    scaled[brain] = (volume[brain] - volume[brain].mean()) / (volume[brain].std() + 1e-8)
    return scaled
