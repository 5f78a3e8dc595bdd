"""Preprocessing of as many patients as BraTS 2021 has: whether time is linear, and memory flat.

`python -m benchmarks.patients FOLDER` copies the patients of a BraTS folder under other names, with one
voxel changed in each file, since equal files are found and left out. Then `slicewise run` reads and stores
them while its processes are watched. The copies take about 9 MiB a patient, and as much again when they are
stored.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import deflate
import nibabel as nib
import numpy as np
import psutil

NUM_PATIENTS = 1251
"""The training patients of BraTS 2021"""
PARTS = 4
_INTERVAL = 0.25
_MIB = 1 << 20


@dataclass(frozen=True)
class Sample:
    """What was seen at one moment."""

    seconds: float
    done: int
    """Patients stored"""
    worker_mib: float
    """Proportional memory of the largest child process; shared pages are divided among those that share"""
    total_mib: float
    """Proportional memory of all processes of the command"""
    cpu_seconds: float
    """Time of the processor of all of them so far"""


def copy_patient(sources: Sequence[Path], root: Path, number: int) -> None:
    """Write patient `number`: one of `sources` with a voxel of each file changed."""
    source = sources[number % len(sources)]
    folder = root / f"BraTS2021_{number:05d}"
    folder.mkdir(parents=True)
    for path in source.glob("*.nii.gz"):
        image = nib.Nifti1Image.from_filename(path)
        voxels = np.asanyarray(image.dataobj).copy()
        if not path.name.endswith("_seg.nii.gz"):  # masks may be equal, images not
            voxels.reshape(-1)[voxels.argmax()] -= number // len(sources)
        copied = nib.Nifti1Image(voxels, image.affine, image.header)
        name = path.name.replace(source.name, folder.name)
        (folder / name).write_bytes(deflate.gzip_compress(copied.to_bytes(), 1))


def watch(process: psutil.Process, store: Path) -> list[Sample]:
    """Return samples of the memory and of the patients done, until the process ends."""
    samples, started = list[Sample](), time.perf_counter()
    while process.status() != psutil.STATUS_ZOMBIE:
        family = [process, *process.children(recursive=True)]
        (own, *others), cpu_seconds = zip(*map(_use_of, family), strict=True)
        done = len(list(store.glob("*/entry.json")))
        seconds = time.perf_counter() - started
        largest = max(others, default=0.0)
        samples.append(Sample(seconds, done, largest, own + sum(others), sum(cpu_seconds)))
        time.sleep(_INTERVAL)
    return samples


def _use_of(process: psutil.Process) -> tuple[float, float]:
    """Return the memory in MiB, and the seconds of the processor with those of ended children."""
    try:
        return float(process.memory_full_info().pss) / _MIB, sum(process.cpu_times()[:4])
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0, 0.0  # it ended meanwhile


def rows(samples: Sequence[Sample], number: int) -> list[tuple[int, int, float, float, float, float]]:
    """Return (first, last, seconds and processor seconds per patient, MiB at most of a worker and of all)."""
    found = []
    for part in range(PARTS):
        low, high = number * part // PARTS, number * (part + 1) // PARTS
        here = [sample for sample in samples if low < sample.done <= high]
        patients = here[-1].done - here[0].done
        pace = (here[-1].seconds - here[0].seconds) / patients
        work = (here[-1].cpu_seconds - here[0].cpu_seconds) / patients
        worker, total = (max(getattr(each, name) for each in here) for name in ("worker_mib", "total_mib"))
        found.append((low + 1, high, pace, work, worker, total))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.patients", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder of BraTS patients")
    parser.add_argument("--patients", type=int, default=NUM_PATIENTS)
    args = parser.parse_args()
    sources = sorted(path for path in args.folder.iterdir() if path.is_dir())
    with tempfile.TemporaryDirectory(prefix="slicewise-patients-") as name:
        root, workspace = Path(name) / "copies", Path(name) / "workspace"
        with ProcessPoolExecutor() as pool:
            list(pool.map(partial(copy_patient, sources, root), range(args.patients)))
        command = [sys.executable, "-m", "slicewise", "run", "--no-input", "--until", "preprocess"]
        command += ["--workspace", str(workspace), "data=brats", f"data.sources.volumes.path={root}"]
        command += ["data.sources.pictures=null", "scale.fraction=1.0"]
        started = time.perf_counter()
        with psutil.Popen(command, stdout=subprocess.DEVNULL) as process:
            samples = watch(process, workspace / "data" / "slices" / "brats")
        seconds = time.perf_counter() - started
        if process.returncode:
            raise SystemExit(f"the run ended with exit code {process.returncode}")
    print(f"{args.patients} patients: {seconds:.0f} s, {seconds / args.patients:.3f} s each")
    print("| patients | s each | processor s each | MiB of the largest worker | MiB in all |")
    print("|---|---:|---:|---:|---:|")
    for first, last, pace, work, worker, total in rows(samples, args.patients):
        print(f"| {first} to {last} | {pace:.3f} | {work:.3f} | {worker:.0f} | {total:.0f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
