"""Checkpoints as later steps and commands read them: of a stage, and of the folds of a cross-validation."""

from pathlib import Path
from typing import TYPE_CHECKING

from slicewise.config.schema import Config
from slicewise.config.schema.training import PART_OF_TASK
from slicewise.core.errors import UsageError, WorkspaceError
from slicewise.engine.receipt import RECEIPT_NAME, Receipt
from slicewise.engine.step import Context
from slicewise.engine.workspace import Workspace
from slicewise.workflow.folds import FOLDS_DIR, fold_name

if TYPE_CHECKING:
    from slicewise.models.checkpoint import Checkpoint


def load_stage_checkpoint(context: Context[Config], stage: str) -> "Checkpoint":
    """Return the best checkpoint of a stage that the step needs.

    Raises:
        CheckpointError: the file is damaged.
        WorkspaceError: it does not belong to the receipt beside it.
    """
    from slicewise.models.checkpoint import load_checkpoint

    path = context.home(f"train.{stage}", "checkpoint") / "best_model.pth"
    checkpoint = load_checkpoint(path)
    if checkpoint.fingerprint != context.needs[f"train.{stage}"]:
        raise WorkspaceError(
            f"{context.workspace.relative(path)} is not the output of train.{stage}, but a checkpoint of "
            f"{checkpoint.stage} with the fingerprint {checkpoint.fingerprint[:12]}; run `slicewise verify`, "
            "then the same command again"
        )
    return checkpoint


def trained_tasks(context: Context[Config], stage: str) -> frozenset[str]:
    """Return the tasks that the stage itself has trained.

    Read from the receipt and not from the configuration: with `--skip-...` the weights may be of another one.
    """
    settings = context.receipt(f"train.{stage}").identity.settings
    return frozenset(
        task
        for task, part in PART_OF_TASK.items()
        if settings[f"stages.{stage}.learning_rates.{part}"] and settings[f"stages.{stage}.objective.{task}"]
    )


def final_checkpoint(config: Config) -> Path:
    """Return the checkpoint of the last stage, relative to the workspace or the folder of a fold."""
    return Path("checkpoints", f"{config.recipe}_{config.final_stage}", "best_model.pth")


def evaluated_checkpoint(workspace: Workspace) -> Path | None:
    """Return the checkpoint that the last evaluation in the workspace scored; None where there is none."""
    evaluation = Receipt.read(workspace.root / "results" / "multitask_evaluation")
    if evaluation is None:
        return None
    fingerprints = evaluation.identity.needs
    trained = {
        receipt.fingerprint: path.parent / "best_model.pth"
        for path in (workspace.root / "checkpoints").glob(f"*/{RECEIPT_NAME}")
        if (receipt := Receipt.read(path.parent))
    }
    stage = evaluation.report.metrics.get("stage")
    return trained.get(fingerprints.get(f"train.{stage}", ""))


def fold_checkpoints(workspace: Workspace, config: Config) -> list[Path]:
    """Return the checkpoints of the last cross-validation, fold by fold.

    A run that was stopped leaves folds of the run before it: all must have the same settings.

    Raises:
        UsageError: there was none, or some folds are not trained, or with other settings.
    """
    first_split = Receipt.read(workspace.root / FOLDS_DIR / "1" / "data" / "split")
    if first_split is None:
        raise UsageError(
            f"{workspace.root} holds no cross-validation; run `slicewise run --folds 5` first, "
            "or leave --ensemble out"
        )
    number = int(first_split.identity.settings["split.folds"])
    folds = {fold: workspace.root / FOLDS_DIR / str(fold) for fold in range(1, number + 1)}
    paths = {fold: folder / final_checkpoint(config) for fold, folder in folds.items()}
    missing = [fold for fold, path in paths.items() if not _is_trained(path, folds[fold], fold, number)]
    if missing:
        raise UsageError(
            f"fold {', '.join(map(str, missing))} of {number} is not trained on the present split; "
            f"run `slicewise run --folds {number}` first"
        )
    settings = {
        fold: {
            path.name: receipt.identity.settings
            for path in (folder / "checkpoints").glob("*")
            if (receipt := Receipt.read(path))
        }
        for fold, folder in folds.items()
    }
    if others := [fold for fold, stages in settings.items() if stages != settings[1]]:
        raise UsageError(
            f"fold {', '.join(map(str, others))} of {number} was trained with other settings than fold 1; "
            f"run `slicewise run --folds {number}` to the end first, with the settings that you want"
        )
    return [*paths.values()]


def _is_trained(path: Path, folder: Path, fold: int, number: int) -> bool:
    """Whether a fold has a model that was trained on the present split; it may be left from an older one."""
    split, trained = Receipt.read(folder / "data" / "split"), Receipt.read(path.parent)
    if split is None or trained is None or not path.is_file():
        return False
    split_fingerprint = trained.identity.needs.get(fold_name("split", fold))
    return split.identity.settings.get("split.folds") == number and split_fingerprint == split.fingerprint
