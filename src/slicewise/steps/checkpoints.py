"""The checkpoint of a stage, as the steps after it read it."""

from typing import TYPE_CHECKING

from slicewise.config.schema import Config
from slicewise.config.schema.training import StageName
from slicewise.core.errors import WorkspaceError
from slicewise.pipeline.step import Context

if TYPE_CHECKING:
    from slicewise.models.checkpoint import Checkpoint


def stage_checkpoint(context: Context[Config], stage: StageName) -> "Checkpoint":
    """Read the best checkpoint of a stage that the step needs.

    Raises:
        CheckpointError: the file is damaged.
        WorkspaceError: it was made by another stage or from other data than the receipt beside it says.
    """
    from slicewise.models.checkpoint import load_checkpoint

    path = context.home(f"train.{stage}", "checkpoint") / "best_model.pth"
    checkpoint = load_checkpoint(path)
    if checkpoint.fingerprint != context.needs[f"train.{stage}"]:
        raise WorkspaceError(
            f"{context.workspace.relative(path)} is not what train.{stage} made here, but a checkpoint of "
            f"{checkpoint.stage} with the fingerprint {checkpoint.fingerprint[:12]}; run `slicewise verify`, "
            "then the same command again"
        )
    return checkpoint
