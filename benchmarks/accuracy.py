"""Cross-validated Dice against a plain script with the same patients, encoder, threads and training time."""

from pathlib import Path
from typing import Final

from benchmarks.bench import Bench
from benchmarks.measure import Aim, Row
from benchmarks.noop import slicewise_command
from benchmarks.plain_script import Budget, plain_dice
from slicewise.config.compose import compose
from slicewise.config.schema import Config
from slicewise.core.files import read_json
from slicewise.data.split.assignment import SUBSETS, Split
from slicewise.data.store import SliceStore, StoredCase
from slicewise.domain.tables import PatientRow, read_rows
from slicewise.engine.receipt import Receipt

NAME = "accuracy"
AIM = Aim(">=", 0.03)
FOLDS: Final = 3


def run(bench: Bench) -> list[Row]:
    """Compare the Dice of every patient, predicted by the model of the fold that held them out."""
    workspace = bench.workspace or _cross_validated(bench)
    config = compose(bench.workspace_overrides or bench.size.accuracy)
    folders = sorted((workspace / "folds").glob("[0-9]*"), key=lambda folder: int(folder.name))
    if not folders:
        raise RuntimeError(f"{workspace} holds no folds; run `slicewise run --folds 5` there first")
    ours: dict[str, float] = {}
    plain: dict[str, float] = {}
    seconds = 0.0
    for folder in folders:
        budget = _budget(folder, config)
        seconds += budget.seconds
        plain |= plain_dice(config.model, open_subsets(workspace, folder, config), budget)
        ours |= _our_dice(folder, config)
    return [_row(ours, plain, seconds, len(folders))]


def _budget(folder: Path, config: Config) -> Budget:
    return Budget(
        _training_seconds(folder, config),
        config.training.batch_size,
        config.runtime.num_threads,
        config.seed,
        chooses=config.stages[config.final_stage].monitor != "last",
    )


def _row(ours: dict[str, float], plain: dict[str, float], seconds: float, folds: int) -> Row:
    if set(ours) != set(plain):
        raise RuntimeError(f"tested by one of the two only: {sorted(set(ours) ^ set(plain))}")
    return Row(
        benchmark=NAME,
        what=f"mean Dice of {len(ours)} patients out of {folds} folds, against a plain script that had the "
        f"same {seconds:.0f} s of training",
        unit="Dice",
        ours=sum(ours.values()) / len(ours),
        reference=sum(plain.values()) / len(plain),
        meaning="ours - reference, mean over patients",
        ratios=tuple(ours[patient] - plain[patient] for patient in sorted(ours)),
        aim=AIM,
        middle="mean",
    )


def _cross_validated(bench: Bench) -> Path:
    workspace = bench.folder / "folds"
    print("  accuracy: cross-validating on generated patients once", flush=True)
    slicewise_command(
        "run", "--no-input", "--folds", str(FOLDS), "--workspace", str(workspace), *bench.size.accuracy
    )()
    return workspace


def _training_seconds(folder: Path, config: Config) -> float:
    """Return the seconds that the stages took in a fold, validation and checkpoints included.

    An interrupted stage has the duration of its last run; `metrics.seconds` counts the batches of all runs.
    """
    homes = [folder / "checkpoints" / f"{config.recipe}_{stage}" for stage in config.stages]
    reports = [receipt.report for receipt in map(Receipt.read, homes) if receipt]
    if len(reports) < len(homes):
        raise RuntimeError(f"{folder} is not finished; repeat the command that started it")
    return float(sum(max(report.duration_seconds, report.metrics["seconds"]) for report in reports))


def open_subsets(workspace: Path, folder: Path, config: Config) -> dict[str, list[StoredCase]]:
    store = SliceStore(workspace / "data" / "slices")
    split = Split.from_json(read_json(folder / "data" / "split" / "split.json"))
    entries = [
        entry
        for entry in read_json(workspace / "data" / "processed" / "manifest.json")["entries"]
        if entry["source"] == config.data.sources["volumes"].name
    ]
    return {
        subset: [
            store.open(entry["entry"])
            for entry in entries
            if (entry["source"], entry["group"]) in split.subset(subset)
        ]
        for subset in SUBSETS
    }


def _our_dice(folder: Path, config: Config) -> dict[str, float]:
    rows = read_rows(folder / "results" / "multitask_evaluation" / "patients.csv", PatientRow)
    return {
        row.patient: row.dice
        for row in rows
        if row.source == config.data.sources["volumes"].name and row.dice is not None
    }
