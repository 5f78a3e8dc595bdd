"""The three training stages: one step each, from one function."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slicewise.config.schema import Config
from slicewise.config.schema.training import StageName
from slicewise.core.disk import expand_user
from slicewise.core.errors import ConfigError
from slicewise.core.hashing import hash_file
from slicewise.engine.step import Context, Outcome, Step
from slicewise.workflow.checkpoints import load_stage_checkpoint
from slicewise.workflow.demand import training_demand
from slicewise.workflow.settings import select_settings

if TYPE_CHECKING:
    from slicewise.models.checkpoint import Checkpoint
    from slicewise.training.stage import StageResult

_START: Final = "training.start_from"
_NO_IMPROVEMENT: Final = (
    "every epoch was significantly worse on the validation patients, in Dice or AUC: "
    "keeping the initial weights"
)
_METRIC_LABELS: Final = {"dice": "Dice", "auc": "AUC"}


def _settings(stage: StageName, config: Config) -> dict[str, Any]:
    settings = select_settings(
        config,
        f"stages.{stage}",
        "training",
        "model",
        "seed",
        "data.name",
        "data.synthetic",
        "data.pictures.slot",
        without=(_START,),
    )
    path = _external_checkpoint(stage, config)
    return settings if path is None else {**settings, _START: _checkpoint_hash(path)}


def _external_checkpoint(stage: StageName, config: Config) -> Path | None:
    """Return the checkpoint of another run to begin with; only a stage that follows no other one has it."""
    is_first = getattr(config.stages, stage).starts_from is None
    path = config.training.start_from
    return expand_user(path) if is_first and path is not None else None


def _checkpoint_hash(path: Path) -> str:
    """Return what decides the weights: the content of the file, wherever it lies."""
    try:
        return hash_file(path)
    except OSError as error:
        raise ConfigError(
            f"{_START}={path} cannot be read ({error.strerror}); name a best_model.pth, or null"
        ) from error


def _run(stage: StageName, context: Context[Config]) -> Outcome:
    from slicewise.core.malloc import keep_freed_memory
    from slicewise.training.stage import train_stage
    from slicewise.workflow.slices import open_subset

    keep_freed_memory()
    config = context.config
    out = context.out("checkpoint")
    result = train_stage(
        stage,
        config,
        open_subset(context, "train"),
        open_subset(context, "val"),
        out,
        _initial_checkpoint(stage, context),
        fingerprint=context.fingerprint,
    )
    return Outcome(metrics=asdict(result), notes=_notes(result))


def _notes(result: "StageResult") -> tuple[str, ...]:
    """Say what the stage gained on the validation patients over the model that it began with."""
    if not result.start_metrics:
        return ()
    if result.best_epoch == 0:
        return (_NO_IMPROVEMENT,)
    before, after = result.start_metrics, result.best_metrics
    gains = [
        f"{name} {before[key]:.3f} to {after[key]:.3f}"
        for key, name in _METRIC_LABELS.items()
        if key in before
    ]
    return (f"validation patients, start to epoch {result.best_epoch}: {', '.join(gains)}",)


def _initial_checkpoint(stage: StageName, context: Context[Config]) -> "Checkpoint | None":
    from slicewise.models.checkpoint import load_checkpoint

    before = getattr(context.config.stages, stage).starts_from
    if before is not None:
        return load_stage_checkpoint(context, before)
    path = _external_checkpoint(stage, context.config)
    return None if path is None else load_checkpoint(path, context.config.model)


def _step(stage: StageName, *needs: str) -> Step[Config]:
    return Step(
        name=f"train.{stage}",
        run=partial(_run, stage),
        settings=partial(_settings, stage),
        needs=("preprocess", "split", *needs),
        homes={"checkpoint": f"checkpoints/multitask_{stage}"},
        product=("best_model.pth",),
        version=10,
        demand=training_demand,
    )


TRAIN_SEG_WARMUP = _step("seg_warmup")
TRAIN_CLS_HEAD = _step("cls_head", "train.seg_warmup")
TRAIN_JOINT = _step("joint", "train.cls_head")
