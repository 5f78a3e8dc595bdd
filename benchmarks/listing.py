"""Listing and checking a folder of small patients, against `nibabel.load` of every file."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np

from benchmarks.bench import Bench
from benchmarks.measure import Aim, Row, alternate, shorter_is_better
from slicewise.config.schema.sources import BratsSettings
from slicewise.core.errors import DataError
from slicewise.data.cases import check_source
from slicewise.data.sources.brats import Brats

NAME = "listing"
AIM = Aim(">=", 1)
_KINDS = ("t1", "t1ce", "t2", "flair", "seg")
_SIDE = 8


def run(bench: Bench) -> list[Row]:
    """Time the whole folder both ways."""
    root = bench.folder / "listed"
    make_patients(root, bench.size.listed)
    seconds = alternate(
        {"ours": lambda: list_patients(root), "usual": lambda: _load_all(root)}, bench.size.starts
    )
    what = f"listing and checking {bench.size.listed:,} patients, against nibabel.load of each file"
    return [shorter_is_better(NAME, what, seconds["ours"], seconds["usual"], AIM)]


def make_patients(root: Path, number: int) -> None:
    """Write patients of five tiny files each; no two have the same voxels."""
    rng = np.random.default_rng(0)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    shape = (_SIDE,) * 3
    headers = {
        kind: nib.Nifti1Image(np.zeros(shape, kind), affine).to_bytes()[:352] for kind in (np.int16, np.uint8)
    }
    for patient in range(number):
        folder = root / f"BraTS2021_{patient:05d}"
        folder.mkdir(parents=True)
        for name in _KINDS:
            kind = np.uint8 if name == "seg" else np.int16
            voxels = rng.integers(0, 4 if name == "seg" else 1000, shape, kind)
            data = gzip.compress(headers[kind] + voxels.tobytes(), 1, mtime=0)
            (folder / f"{folder.name}_{name}.nii.gz").write_bytes(data)


def list_patients(root: Path) -> int:
    """Return how many patients are found and sound."""
    cases, problems = Brats(BratsSettings(kind="brats", name="listed")).discover(root)
    usable, _ = check_source("listed", root, cases, problems)
    if len(usable) != sum(1 for _ in root.iterdir()):
        raise DataError(f"{len(usable)} patients of {root} are usable, not all")
    return len(usable)


def _load_all(root: Path) -> None:
    for path in sorted(root.rglob("*.nii.gz")):
        nib.load(path)
