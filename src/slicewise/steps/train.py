"""The three training stages: one step each, from one function."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from slicewise.config.schema import Config
from slicewise.config.schema.training import StageName
from slicewise.pipeline.step import Context, Outcome, Step
from slicewise.steps.checkpoints import stage_checkpoint
from slicewise.steps.demand import of_training
from slicewise.steps.settings import pick

if TYPE_CHECKING:
    from slicewise.models.checkpoint import Checkpoint


def _settings(stage: StageName, config: Config) -> dict[str, Any]:
    return pick(
        config,
        f"stages.{stage}",
        "training",
        "model",
        "seed",
        "data.name",
        "data.synthetic",
        "data.pictures.slot",
    )


def _run(stage: StageName, context: Context[Config]) -> Outcome:
    from slicewise.core.allocator import keep_freed_memory
    from slicewise.steps.slices import open_side
    from slicewise.training.loop import train_stage

    keep_freed_memory()
    config = context.config
    out = context.out("checkpoint")
    result = train_stage(
        stage,
        getattr(config.stages, stage),
        config,
        open_side(context, "train"),
        open_side(context, "val"),
        out,
        _start(stage, context),
        fingerprint=context.fingerprint,
    )
    return Outcome(metrics=asdict(result))


def _start(stage: StageName, context: Context[Config]) -> "Checkpoint | None":
    before = getattr(context.config.stages, stage).starts_from
    return None if before is None else stage_checkpoint(context, before)


def _step(stage: StageName, *needs: str) -> Step[Config]:
    return Step(
        name=f"train.{stage}",
        run=partial(_run, stage),
        settings=partial(_settings, stage),
        needs=("preprocess", "split", *needs),
        homes={"checkpoint": f"checkpoints/multitask_{stage}"},
        product=("best_model.pth",),
        version=2,
        demand=of_training,
    )


TRAIN_SEG_WARMUP = _step("seg_warmup")
TRAIN_CLS_HEAD = _step("cls_head", "train.seg_warmup")
TRAIN_JOINT = _step("joint", "train.cls_head")
