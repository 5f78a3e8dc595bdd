"""The checkpoint of a stage as later steps read it, and the tasks that the stage trained."""

from typing import TYPE_CHECKING

from slicewise.config.schema import Config
from slicewise.config.schema.training import PART_OF_TASK
from slicewise.core.errors import WorkspaceError
from slicewise.engine.step import Context

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
