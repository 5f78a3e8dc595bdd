"""The checkpoint of a stage as later steps read it, and the tasks that its weights were trained on."""

from typing import TYPE_CHECKING, Final

from slicewise.config.schema import Config
from slicewise.core.errors import WorkspaceError
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.engine.step import Context

if TYPE_CHECKING:
    from slicewise.models.checkpoint import Checkpoint

_PARAMETER_GROUP: Final = {SEGMENTATION: "decoder", CLASSIFICATION: "head"}


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
        for task, part in _PARAMETER_GROUP.items()
        if settings[f"stages.{stage}.learning_rates.{part}"] and settings[f"stages.{stage}.objective.{task}"]
    )


def untrained_tasks(context: Context[Config], stage: str) -> tuple[str, ...]:
    """Return the tasks that neither a stage nor any stage its weights come from has trained."""
    trained: set[str] = set()
    previous: str | None = stage
    while previous is not None:
        trained |= trained_tasks(context, previous)
        previous = context.receipt(f"train.{previous}").identity.settings[f"stages.{previous}.starts_from"]
    return tuple(task for task in _PARAMETER_GROUP if task not in trained)
