"""Preprocessing of many patients on 2 to 64 workers that stay: a simulation with measured times.

`python -m benchmarks.workers FOLDER` measures on this machine, with one thread, how long each patient of a
BraTS folder takes. Then `cluster.drive`, which starts the jobs of a run on Ray, gives the bundles that
`cluster.bundles` makes to workers in simulated time: each task lasts as long as its patients, drawn from what
was measured, and `--overhead` for the bundle; each worker needs `--start` for imports and the list of cases.
"""

import argparse
import heapq
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from slicewise.cluster.bundles import RAY_WORKERS, divide
from slicewise.cluster.drive import Place, drive
from slicewise.cluster.plan import Group, Job
from slicewise.config.compose import compose
from slicewise.config.schema.sources import BratsSettings
from slicewise.core.hashing import HashCache
from slicewise.data.preprocess import preprocess_cases
from slicewise.data.sources.brats import Brats
from slicewise.data.store import SliceStore

NUM_WORKERS = (2, 4, 8, 16, 32, 64)
AIM = 0.85


class SimulatedWorkers:
    """So many workers, in simulated seconds; a worker that is free takes the job that was started first."""

    def __init__(self, number: int, seconds: Sequence[float], start: float, dispatch: float) -> None:
        self._free = [start] * number
        self._seconds, self._dispatch = seconds, dispatch
        self._running: list[tuple[float, int, Place]] = []
        self.now, self.done = 0.0, set[str]()

    def start(self, place: Place) -> None:
        self.now += self._dispatch  # the command starts one job after the other
        end = max(heapq.heappop(self._free), self.now) + self._seconds[place.index]
        heapq.heappush(self._free, end)
        heapq.heappush(self._running, (end, place.index, place))

    def wait(self) -> Sequence[Place]:
        end, _, place = heapq.heappop(self._running)
        self.now = max(self.now, end)
        self.done.add(place.job.name)
        return [place]

    def stop(self) -> None:
        """Nothing runs."""


def simulate(
    number: int, seconds: Sequence[float], least: float, overhead: float, start: float, dispatch: float
) -> float:
    """Return the efficiency: the time of the patients alone over that of all workers."""
    estimate = float(np.mean(seconds))  # the plan knows one pace for all, not each patient
    bundles = divide([estimate] * len(seconds), least, RAY_WORKERS)
    lengths = [overhead + sum(seconds[place] for place in bundle) for bundle in bundles]
    group = Group("cases", "data", tuple(Job(str(i), "cases") for i in range(len(bundles))), ())
    workers = SimulatedWorkers(number, lengths, start, dispatch)
    assert drive([group], lambda job: job.name in workers.done, workers, lambda *_: None) == []
    return sum(seconds) / (number * workers.now)


def measure(folder: Path, repeats: int) -> list[float]:
    """Return the seconds of each patient, slices stored, `repeats` times over."""
    settings = compose([]).preprocessing
    cases, _ = Brats(BratsSettings(kind="brats", name="measured")).discover(folder)
    hashes, seconds = HashCache(), list[float]()
    cv2.setNumThreads(1)
    for _ in range(repeats):
        for case in cases:
            root = Path(tempfile.mkdtemp())
            started = time.perf_counter()
            preprocess_cases(
                [case],
                SliceStore(root),
                settings,
                num_workers=1,
                max_worker_memory_mib=1024,
                hash_cache=hashes,
            )
            seconds.append(time.perf_counter() - started)
            shutil.rmtree(root)
    return seconds[len(cases) :]  # the first round imports and reads from the disk


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder of BraTS patients")
    parser.add_argument("--patients", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=4, help="rounds of the measurement, one not counted")
    parser.add_argument(
        "--overhead", type=float, default=0.2, help="seconds of a bundle besides its patients"
    )
    parser.add_argument("--start", type=float, default=5.0, help="seconds until a worker is ready")
    parser.add_argument("--dispatch", type=float, default=0.01, help="seconds of the command for each job")
    args = parser.parse_args()
    measured = measure(args.folder, args.repeats)
    low, median, high = np.quantile(measured, (0, 0.5, 1))
    print(f"a patient takes {median:.2f} s ({low:.2f} to {high:.2f}), {len(measured)} measurements")
    seconds = np.random.default_rng(0).choice(measured, args.patients).tolist()
    least = compose([]).cluster.ray.bundle_seconds
    found = {
        number: simulate(number, seconds, least, args.overhead, args.start, args.dispatch)
        for number in NUM_WORKERS
    }
    for number, efficiency in found.items():
        print(f"{number:3d} workers: efficiency {efficiency:.3f}")
    return 0 if min(found.values()) >= AIM else 1


if __name__ == "__main__":
    sys.exit(main())
