"""The same seed and configuration give the same bits, whatever differs around them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tests.conftest import ROOT
from tests.test_bad_input import write_patient
from tests.test_full_disk import PIPELINE_STEPS, SMALLEST

from slicewise.engine.receipt import Receipt
from slicewise.models.safe_loading import load_safely

STAGES = ("seg_warmup", "cls_head", "joint")
SETTINGS = (
    *(word for word in SMALLEST if not word.startswith(("runtime", "data.sources.pictures", "stages."))),
    "stages.seg_warmup.epochs=1",
    "stages.cls_head.epochs=1",
    "stages.joint.epochs=1",
    "data.sources.pictures.name=mine_too",
    "scale.min_pictures=12",
    "runtime.num_threads=1",
)
SHUFFLED = """
import os, random, sys
scandir, listdir, draw = os.scandir, os.listdir, random.Random({seed})
def shuffled(items):
    items = list(items)
    draw.shuffle(items)
    return items
class Scan:
    def __init__(self, items): self.items = iter(items)
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def __iter__(self): return self
    def __next__(self): return next(self.items)
    def close(self): pass
os.scandir = lambda path=".": Scan(shuffled(scandir(path)))
os.listdir = lambda path=".": shuffled(listdir(path))
os.umask({umask})
from slicewise.cli.main import main
raise SystemExit(main(sys.argv[1:]))
"""
"""A start of the command line that sees every folder in another order each time."""


def write_pictures(folder: Path, order: int) -> None:
    """Write twelve yes/no pictures, in one order or in the other."""
    for number in range(12)[::order]:
        path = folder / ("yes" if number % 2 else "no") / f"P{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        grid = np.hypot(*np.meshgrid(np.linspace(-1, 1, 48), np.linspace(-1, 1, 48)))
        image = np.random.default_rng(number).normal(120, 20, (48, 48)) * (grid < 0.9) + 90 * (grid < 0.2)
        cv2.imwrite(str(path), image.clip(0, 255).astype(np.uint8))


def run(folder: Path, order: int, seed: int, workers: int, around: Mapping[str, str], umask: int) -> Path:
    """Run every step but the demo in a process of its own; return the workspace."""
    data = folder.parent / "data"
    shutil.rmtree(data, ignore_errors=True)
    for number in range(1, 7)[::order]:
        write_patient(data / "patients", number)
    write_pictures(data / "pictures", order)
    folder.mkdir()
    words = [
        *("run", "--no-input", "--until", "evaluate", "--workspace", str(folder / "workspace")),
        *SETTINGS,
        f"runtime.num_workers={workers}",
        f"data.sources.volumes.path={data / 'patients'}",
        f"data.sources.pictures.path={data / 'pictures'}",
    ]
    left_out = ("LC_", "LANG", "TZ", "PYTHONHASHSEED", "OMP_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
    done = subprocess.run(
        [sys.executable, "-c", SHUFFLED.format(seed=seed, umask=umask), *words],
        cwd=folder if order > 0 else ROOT,
        env={
            **inherited,
            **around,
            "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ["PYTHONPATH"]]),
        },
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "workspace"


def identities(workspace: Path) -> dict[str, Any]:
    """Return fingerprint, product and what it was made from, for every step up to the evaluation.

    The report after it tells durations, which no two runs share.
    """
    receipts = {
        step.name: Receipt.read(workspace / next(iter(step.homes.values())))
        for step in PIPELINE_STEPS
        if step.name != "report"
    }
    return {
        name: (receipt.fingerprint, receipt.product, receipt.products) if receipt else None
        for name, receipt in receipts.items()
    }


def slices(workspace: Path) -> dict[str, bytes]:
    folder = workspace / "data" / "slices"
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.npy")}


@pytest.mark.slow
def test_nothing_around_a_run_changes_a_bit_of_it(tmp_path: Path) -> None:
    first = run(tmp_path / "a", 1, 1, 1, {"LC_ALL": "C", "TZ": "UTC", "PYTHONHASHSEED": "1"}, 0o022)
    around = {"LANG": "de_DE.UTF-8", "LC_ALL": "C.UTF-8", "TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "7"}
    second = run(tmp_path / "b ü", -1, 2, 2, around, 0o077)
    assert None not in identities(first).values()
    assert identities(first) == identities(second)
    assert len(slices(first)) == 2 * 18
    assert slices(first) == slices(second)
    for stage in STAGES:
        name = Path("checkpoints") / f"multitask_{stage}" / "best_model.pth"
        ours, theirs = (load_safely(workspace / name)["weights"] for workspace in (first, second))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
        assert (first / name).read_bytes() == (second / name).read_bytes()
