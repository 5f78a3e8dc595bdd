"""A training step with and without `core.machine.keep_freed_memory`, each in a process of its own."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.bench import Bench
from benchmarks.measure import Row, throughput

if TYPE_CHECKING:
    from slicewise.data.loading.dataset import Batch

NAME = "malloc"
_ROOT = Path(__file__).resolve().parents[1]


def run(bench: Bench) -> list[Row]:
    """Start processes alternately; each takes a few steps on a random batch. Without an aim."""
    size = bench.size
    tuned, plain = [], []
    for _ in range(-(-size.starts // 2)):
        tuned.append(_seconds_in_child("keep", size.iterations, size.overrides))
        plain.append(_seconds_in_child("plain", size.iterations, size.overrides))
    num_images = size.iterations * bench.config.training.batch_size
    what = "steps with freed memory kept in the process, against without"
    return [throughput(NAME, what, num_images, tuned, plain)]


def _seconds_in_child(allocator: str, iterations: int, overrides: tuple[str, ...]) -> float:
    command = [sys.executable, "-m", "benchmarks.malloc", allocator, str(iterations), *overrides]
    environment = {name: text for name, text in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(command, cwd=_ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    return float(json.loads(done.stdout))


def _child(allocator: str, iterations: int, overrides: list[str]) -> float:
    """Return the seconds of `iterations` steps, after two as warm-up."""
    import torch

    from benchmarks.training import BareSteps
    from slicewise.config.compose import compose
    from slicewise.core.machine import keep_freed_memory
    from slicewise.training.stage import deterministic_kernels

    if allocator == "keep":
        keep_freed_memory()
    config = compose(overrides)
    torch.manual_seed(0)
    with deterministic_kernels(config.runtime):
        steps = BareSteps(config, random_batch(config.training.batch_size, config.preprocessing.image_size))
        steps.train(2)
        started = time.perf_counter()
        steps.train(iterations)
        return time.perf_counter() - started


def random_batch(batch_size: int, side: int) -> "Batch":
    import torch

    from slicewise.data.loading.dataset import Batch

    return Batch(
        images=torch.randn(batch_size, 4, side, side),
        presence=torch.ones(batch_size, 4),
        masks=(torch.rand(batch_size, 1, side, side) > 0.9).float(),
        has_mask=torch.ones(batch_size, dtype=torch.bool),
        labels=torch.ones(batch_size),
    )


if __name__ == "__main__":
    print(json.dumps(_child(sys.argv[1], int(sys.argv[2]), sys.argv[3:])))
