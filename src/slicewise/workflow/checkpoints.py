"""The checkpoint of a stage as later steps read it, and the tasks that the stage trained."""

from pathlib import Path
from typing import TYPE_CHECKING

from slicewise.config.schema import Config
from slicewise.config.schema.training import PART_OF_TASK
from slicewise.core.errors import UsageError, WorkspaceError
from slicewise.engine.receipt import Receipt
from slicewise.engine.step import Context
from slicewise.engine.workspace import Workspace
from slicewise.models.checkpoint import CHECKPOINT_NAME
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
    return Path("checkpoints", f"{config.recipe}_{config.final_stage}", CHECKPOINT_NAME)


def fold_checkpoints(workspace: Workspace, config: Config) -> list[Path]:
    """Return the checkpoints of the last cross-validation, fold by fold.

    A run that was stopped leaves folds of the run before it: all must have the same settings.

    Raises:
        UsageError: there was none, or some folds are not trained, or with other settings.
    """
    first_split = _split(workspace, 1)
    if first_split is None:
        raise UsageError(
            f"{workspace.root} holds no cross-validation; run `slicewise run --folds 5` first, "
            "or leave --ensemble out"
        )
    folds = int(first_split.identity.settings["split.folds"])
    paths = [_fold(workspace, fold) / final_checkpoint(config) for fold in range(1, folds + 1)]
    missing = [fold for fold, path in enumerate(paths, 1) if not _is_trained(workspace, path, fold, folds)]
    if missing:
        raise UsageError(
            f"fold {', '.join(map(str, missing))} of {folds} is not trained on the present split; "
            f"run `slicewise run --folds {folds}` first"
        )
    settings = [
        {
            path.name: receipt.identity.settings
            for path in (_fold(workspace, fold) / "checkpoints").glob("*")
            if (receipt := Receipt.read(path))
        }
        for fold in range(1, folds + 1)
    ]
    others = [fold for fold, stages in enumerate(settings, 1) if stages != settings[0]]
    if others:
        raise UsageError(
            f"fold {', '.join(map(str, others))} of {folds} was trained with other settings than fold 1; run "
            f"`slicewise run --folds {folds}` to the end first, with the settings that you want"
        )
    return paths


def _is_trained(workspace: Workspace, path: Path, fold: int, folds: int) -> bool:
    """Whether a fold has a model that was trained on the present split; it may be left from an older one."""
    split, trained = _split(workspace, fold), Receipt.read(path.parent)
    if split is None or trained is None or not path.is_file():
        return False
    split_fingerprint = trained.identity.needs.get(fold_name("split", fold))
    return split.identity.settings.get("split.folds") == folds and split_fingerprint == split.fingerprint


def _split(workspace: Workspace, fold: int) -> Receipt | None:
    return Receipt.read(_fold(workspace, fold) / "data" / "split")


def _fold(workspace: Workspace, fold: int) -> Path:
    return workspace.root / FOLDS_DIR / str(fold)
