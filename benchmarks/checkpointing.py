"""Cost of saves within an epoch: one save against the interval between two."""

import shutil

from benchmarks.bench import Bench
from benchmarks.measure import Aim, Row, alternate
from slicewise.config.compose import compose
from slicewise.config.schema import Config
from slicewise.core.disk import MIB
from slicewise.training.learner import Learner
from slicewise.training.stage import deterministic_kernels
from slicewise.training.state import Progress, save_state

NAME = "checkpointing"
AIM = Aim("<=", 0.02)
_LARGEST = "modes=production"


def run(bench: Bench) -> list[Row]:
    """Time one save of each model, with its optimiser, against the seconds between two of them."""
    models = {"this mode's": bench.config}
    if bench.size.largest_model:
        models["the largest mode's"] = compose((_LARGEST, *bench.size.overrides))
    return [_row(bench, name, config) for name, config in models.items()]


def _row(bench: Bench, name: str, config: Config) -> Row:
    path = bench.folder / "checkpointing" / "last.pth"
    interval = float(config.runtime.checkpoint_seconds)
    with deterministic_kernels(config.runtime):
        learner = _after_a_step(config)
        seconds = alternate(
            {"save": lambda: save_state(path, "benchmark", Progress(), learner.state())}, bench.size.repeats
        )["save"]
    size = path.stat().st_size / MIB
    shutil.rmtree(path.parent)
    what = f"a save of {name} state ({size:.0f} MiB), against the interval of saves"
    ratios = tuple(save_seconds / interval for save_seconds in seconds)
    middle = sorted(seconds)[len(seconds) // 2]
    return Row(NAME, what, "s", middle, interval, "ours / reference", ratios, AIM)


def _after_a_step(config: Config) -> Learner:
    """Return a learner whose optimiser has all its moments."""
    learner = Learner(config.stages["joint"], config, None, num_steps=1)
    for parameter in learner.model.parameters():
        if parameter.requires_grad:
            parameter.grad = parameter.detach().clone()
    learner.step(0)
    return learner
