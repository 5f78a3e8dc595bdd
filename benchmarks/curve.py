"""Validation Dice over seconds of the processor: the stage that learns masks, and a plain script.

The script has the same patients, encoder and threads, and three times the seconds.
"""

import time
from pathlib import Path

from benchmarks.accuracy import open_subsets
from benchmarks.bench import Bench
from benchmarks.measure import Aim, Row
from benchmarks.noop import slicewise_command
from benchmarks.plain_script import Budget, Curve, plain_curve
from slicewise.config.compose import compose
from slicewise.config.schema import Config
from slicewise.core import activity
from slicewise.core.machine import keep_freed_memory
from slicewise.data.loading.dataset import SliceDataset
from slicewise.training.stage import deterministic_kernels
from slicewise.training.trainer import Trainer

NAME = "curve"
AIM = Aim(">=", 3)


class TimedTrainer(Trainer):
    """Counts the seconds of the processor that go to training batches."""

    cpu_seconds = 0.0

    def _train_epoch(self) -> None:
        before = time.process_time()
        super()._train_epoch()
        self.cpu_seconds += time.process_time() - before


def run(bench: Bench) -> list[Row]:
    """Compare how soon the Dice is reached with which the script ends."""
    workspace = bench.workspace or _prepared(bench)
    config = compose(bench.workspace_overrides or (*bench.size.accuracy, *bench.size.curve))
    subsets = open_subsets(workspace, workspace, config)
    name = next(name for name, stage in config.stages.items() if stage.objective.segmentation)
    sets = {
        subset: SliceDataset({"volumes": subsets[subset]}, preload_mib=2048) for subset in ("train", "val")
    }
    ours = _our_curve(name, config, sets, bench.folder / "curve")
    budget = Budget(
        3 * ours[-1][0], config.training.batch_size, config.runtime.num_threads or 1, config.seed, False
    )
    theirs = plain_curve(config.model, subsets, budget)
    for title, curve in (("ours", ours), ("plain script", theirs)):
        print(f"  {title}: " + ", ".join(f"{dice:.3f} after {seconds:.0f} s" for seconds, dice in curve))
    (end, goal), best = theirs[-1], max(dice for _, dice in ours)
    reached = next((seconds for seconds, dice in ours if dice >= goal), float("inf"))
    what = (
        f"seconds of the processor until the validation Dice of {goal:.3f} with which a plain script ends "
        f"(ours at best {best:.3f})"
    )
    return [Row(NAME, what, "s", reached, end, "reference / ours", (end / reached,), AIM)]


def _our_curve(name: str, config: Config, sets: dict[str, SliceDataset], out_dir: Path) -> Curve:
    curve: Curve = []
    keep_freed_memory()
    with deterministic_kernels(config.runtime, NAME) as threads:
        trainer = TimedTrainer(name, config, sets["train"], sets["val"], out_dir, None, NAME)
        with activity.epochs(lambda metrics: curve.append((trainer.cpu_seconds, metrics["dice"]))):
            trainer.run(threads)
    return curve


def _prepared(bench: Bench) -> Path:
    workspace = bench.folder / "prepared"
    slicewise_command(
        *("run", "--no-input", "--until", "split", "--workspace", str(workspace)), *bench.size.accuracy
    )()
    return workspace
