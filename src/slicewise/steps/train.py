"""A training stage."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slicewise.config.schema import Config
from slicewise.core.disk import expand_user
from slicewise.core.errors import ConfigError
from slicewise.core.hashing import hash_file
from slicewise.core.machine import keep_freed_memory
from slicewise.engine.step import Context, Outcome, Step
from slicewise.workflow.checkpoints import load_stage_checkpoint
from slicewise.workflow.demand import check_model, training_demand
from slicewise.workflow.participants import source_keys
from slicewise.workflow.settings import recipe_wording, select_settings
from slicewise.workflow.slices import open_subset
from slicewise.workflow.time_plan import STEP, planned_config

if TYPE_CHECKING:
    from slicewise.models.checkpoint import Checkpoint
    from slicewise.training.stage import StageResult

_START: Final = "training.start_from"


def _settings(stage: str, config: Config) -> dict[str, Any]:
    data_keys = ("data.name", "data.synthetic", *source_keys(config, "slot"))
    keys = (f"stages.{stage}", "training", "tasks", "model", "seed", *data_keys)
    unset = () if config.model.widths else ("model.widths",)  # outputs of before it existed stay up to date
    settings = select_settings(config, *keys, without=(_START, "training.minutes", *unset))
    path = _external_checkpoint(stage, config)
    if path is not None:  # its content counts, not its path
        try:
            settings[_START] = hash_file(path)
        except OSError as error:
            raise ConfigError(
                f"{_START}={path} cannot be read ({error.strerror}); name a best_model.pth, or null"
            ) from error
    return settings


def _external_checkpoint(stage: str, config: Config) -> Path | None:
    """Return the initial checkpoint from another run; only a stage that follows no other one has it."""
    path = config.training.start_from
    return None if path is None or config.stages[stage].starts_from else expand_user(path)


def _check(stage: str, config: Config) -> None:
    begins = not config.stages[stage].starts_from and config.training.start_from is None
    check_model(config, pretrained=begins)


def _run(stage: str, context: Context[Config]) -> Outcome:
    from slicewise.training.stage import train_stage

    keep_freed_memory()
    config = planned_config(context)
    with recipe_wording(config):
        result = train_stage(
            stage,
            config,
            open_subset(context, "train"),
            open_subset(context, "val"),
            context.out("checkpoint"),
            _initial_checkpoint(stage, context),
            fingerprint=context.fingerprint,
        )
    return Outcome(metrics=asdict(result), notes=_notes(result))


def _notes(result: "StageResult") -> tuple[str, ...]:
    """Return what the stage gained on the validation patients over its initial weights."""
    if not result.start_metrics:
        return ()
    if result.best_epoch == 0:
        return (
            "every epoch was significantly worse on the validation patients, in Dice or AUC: "
            "keeping the initial weights",
        )
    initial, best = result.start_metrics, result.best_metrics
    labels = {"dice": "Dice", "auc": "AUC"}
    gains = [f"{labels[key]} {initial[key]:.3f} to {best[key]:.3f}" for key in labels if key in initial]
    return (f"validation patients, start to epoch {result.best_epoch}: {', '.join(gains)}",)


def _initial_checkpoint(stage: str, context: Context[Config]) -> "Checkpoint | None":
    from slicewise.models.checkpoint import load_checkpoint

    config = context.config
    if previous := config.stages[stage].starts_from:
        return load_stage_checkpoint(context, previous)
    path = _external_checkpoint(stage, config)
    return None if path is None else load_checkpoint(path, config.model, config.preprocessing.channels)


def train(config: Config, stage: str) -> Step[Config]:
    """Return the step that trains a stage of the configuration."""
    start = config.stages[stage].starts_from
    home = f"checkpoints/{config.recipe}_{stage}"
    is_final = stage == config.final_stage
    needs = ("preprocess", "split", *([STEP] if config.training.minutes else []))
    return Step(
        name=f"train.{stage}",
        run=partial(_run, stage),
        settings=partial(_settings, stage),
        needs=(*needs, *([f"train.{start}"] if start else [])),
        homes={"checkpoint": home},
        product=("best_model.pth",),
        version=13,
        check=partial(_check, stage),
        demand=training_demand,
        group="train",
        aliases=("train", "training", stage.replace("_", "-")),
        highlights={f"{home}/best_model.pth": "the trained model"} if is_final else {},
        per_fold=True,
    )
