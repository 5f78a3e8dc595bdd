"""The checkpoint of a stage, as the steps after it read it, and what its weights have learned."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from slicewise.config.schema import Config
from slicewise.config.schema.training import StageName
from slicewise.core.errors import WorkspaceError
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.engine.receipt import Receipt
from slicewise.engine.step import Context

if TYPE_CHECKING:
    from slicewise.models.checkpoint import Checkpoint

_PARAMETER_GROUP: Final = {SEGMENTATION: "decoder", CLASSIFICATION: "head"}


def load_stage_checkpoint(context: Context[Config], stage: StageName) -> "Checkpoint":
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


def trained_tasks(context: Context[Config], stage: StageName) -> frozenset[str]:
    """Return the tasks that the stage itself has trained.

    The receipts are asked, and not the configuration: with `--skip-...` the weights may be of another one.
    """
    stage_settings = _read_stage_settings(context, stage)
    return frozenset(
        task
        for task, part in _PARAMETER_GROUP.items()
        if stage_settings[f"stages.{stage}.learning_rates.{part}"]
        and stage_settings[f"stages.{stage}.objective.{task}"]
    )


def not_trained(context: Context[Config], stage: StageName) -> tuple[str, ...]:
    """Return the tasks that neither a stage nor any stage its weights come from has trained."""
    untrained, stage_before = list(_PARAMETER_GROUP), stage
    while untrained and stage_before is not None:
        trained = trained_tasks(context, stage_before)
        untrained = [task for task in untrained if task not in trained]
        stage_before = _read_stage_settings(context, stage_before)[f"stages.{stage_before}.starts_from"]
    return tuple(untrained)


def _read_stage_settings(context: Context[Config], stage: StageName) -> Mapping[str, Any]:
    folder = context.home(f"train.{stage}", "checkpoint")
    receipt = Receipt.read(folder)
    if receipt is None:
        raise WorkspaceError(
            f"the receipt in {context.workspace.relative(folder)} is damaged; run `slicewise verify`, "
            "then the same command again"
        )
    return receipt.identity.settings
