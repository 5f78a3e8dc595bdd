"""A training step beside other programs: with the threads chosen by SliceWise, and with each fixed setting.

Every setting has its own process, as libgomp reads its environment at the start; they run alternately. The
neighbours, two threads of matrix products each, are started and ended here.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import IO, Final

from benchmarks.bench import Bench
from benchmarks.measure import Aim, Row

NAME: Final = "neighbours"
AIM: Final = Aim(">=", 0.95)
_ROUNDS: Final = 3
_ROOT: Final = Path(__file__).resolve().parents[1]
_CHOSEN: Final = "chosen"
_FIXED: Final[Mapping[str, Mapping[str, str]]] = {
    "all threads": {},
    "all threads, OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "all threads, GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "one thread": {},
}
NEIGHBOUR: Final = """
import os, threading, time, torch
def end_with(parent):
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(0)
threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
torch.set_num_threads(2)
a = torch.randn(1200, 1200)
print("ready", flush=True)
while True:
    a = torch.tanh(a @ a / 40)
"""


def run(bench: Bench) -> list[Row]:
    """Compare the chosen setting with each fixed one; the aim is for the best of these."""
    size = bench.size
    with ExitStack() as stack:
        trainers = {name: stack.enter_context(_trainer(name, size.overrides)) for name in (_CHOSEN, *_FIXED)}
        return [row for number in size.neighbours for row in _rows(trainers, number, size.window)]


def _rows(trainers: "Mapping[str, Trainer]", number: int, window: float) -> list[Row]:
    rates: dict[str, list[float]] = {name: [] for name in trainers}
    with neighbours(number):
        for _ in range(_ROUNDS):
            for name, trainer in trainers.items():
                rates[name].append(trainer.rate(window))
    ours = rates.pop(_CHOSEN)
    best = max(rates, key=lambda name: median(rates[name]))
    beside = (
        "on its own" if not number else f"beside {number} program{'s' if number > 1 else ''} of two threads"
    )
    return [
        Row(
            NAME,
            f"training step {beside}, chosen threads against {name}{' (the best)' if name == best else ''}",
            "images/s",
            median(ours),
            median(fixed_rates),
            "ours / reference",
            tuple(chosen_rate / other for chosen_rate, other in zip(ours, fixed_rates, strict=True)),
            AIM if name == best else None,
        )
        for name, fixed_rates in rates.items()
    ]


class Trainer:
    """A process that takes training steps for a requested time."""

    def __init__(self, requests: IO[str], results: IO[str]) -> None:
        self._requests, self._results = requests, results

    def rate(self, seconds: float) -> float:
        """Return images per second."""
        print(seconds, file=self._requests, flush=True)
        line = self._results.readline()
        if not line:
            raise RuntimeError("a training process has ended; its error is above")
        return float(json.loads(line))


@contextmanager
def neighbours(number: int) -> Iterator[None]:
    """Run `number` busy programs while the block runs."""
    with ExitStack() as stack:
        for _ in range(number):
            command = [sys.executable, "-c", NEIGHBOUR]
            process = stack.enter_context(
                subprocess.Popen(command, env=_environment(), stdout=subprocess.PIPE, text=True)
            )
            stack.callback(process.kill)
            assert process.stdout is not None
            process.stdout.readline()
        yield


@contextmanager
def _trainer(name: str, overrides: tuple[str, ...]) -> Iterator[Trainer]:
    command = [sys.executable, "-m", "benchmarks.neighbours", name, *overrides]
    environment = {**_environment(), **_FIXED.get(name, {})}
    with subprocess.Popen(
        command, cwd=_ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        trainer = Trainer(process.stdin, process.stdout)
        trainer.rate(0)
        yield trainer
        process.stdin.close()


def _environment() -> dict[str, str]:
    """Return the environment without variables that set the threads."""
    return {name: text for name, text in os.environ.items() if not name.startswith(("OMP_", "GOMP_", "MKL_"))}


def _train_on_request(name: str, overrides: list[str]) -> None:
    import torch

    from benchmarks.malloc import random_batch
    from benchmarks.training import BareSteps
    from slicewise.compute.threads import Threads
    from slicewise.config.compose import compose
    from slicewise.core.machine import usable_cores

    config = compose(["modes=quick", *overrides])
    batch_size = config.training.batch_size
    fixed = {_CHOSEN: config.runtime.num_threads, "one thread": 1}.get(name, usable_cores())
    torch.manual_seed(0)
    with Threads(fixed, name) as threads:
        steps = BareSteps(config, random_batch(batch_size, config.preprocessing.image_size))
        steps.train(2)
        for line in sys.stdin:
            started, count = time.perf_counter(), 0
            if name == _CHOSEN and float(line) and (log_line := threads.choose()):
                print(f"  {log_line}", file=sys.stderr, flush=True)
            while (seconds := time.perf_counter() - started) < float(line) or not count:
                steps.train(1)
                count += 1
            print(json.dumps(count * batch_size / seconds if seconds else 0.0), flush=True)


if __name__ == "__main__":
    _train_on_request(sys.argv[1], sys.argv[2:])
