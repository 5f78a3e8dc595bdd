"""A smaller model that learns from a trained one: another encoder, or fewer channels in each layer.

It is trained by the stage machinery on the training patients of the workspace, with the settings of the run
that trained the first model; nothing is selected on the validation patients, which decide later whether it is
accepted.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from slicewise.config.compose import compose
from slicewise.config.schema import Config, Model
from slicewise.config.schema.training import LAST_EPOCH, PART_OF_TASK, LearningRates, Objective, Stage
from slicewise.core.errors import ConfigError, UsageError
from slicewise.core.hashing import digest
from slicewise.core.machine import keep_freed_memory
from slicewise.engine.receipt import RECEIPT_NAME, Receipt
from slicewise.workflow.settings import recipe_wording
from slicewise.workflow.slices import case_dataset, require_cases, workspace_of
from slicewise.workflow.time_plan import rehearse, stage_seconds

if TYPE_CHECKING:
    from slicewise.data.loading.dataset import SliceDataset
    from slicewise.data.split.assignment import Subset
    from slicewise.models.checkpoint import Checkpoint

Report = Callable[[str], None]
Check = Callable[["Checkpoint"], None]
"""Raises where a model of this form, whatever its weights, is of no use"""
_LONGER: Final = 2
"""A new encoder is trained so many times as long as the stage; ImageNet has taught it less"""
_RECEIPTS: Final = ("data/index", "results/multitask_evaluation")
_DROPPED: Final = ("training.start_from", "model.widths")


@dataclass(frozen=True)
class Recipe:
    """How the model becomes smaller."""

    encoder: str | None = None
    """Distil into this encoder"""
    ratio: float = 0.0
    """Then remove this share of the channels of each layer"""
    epochs: int | None = None
    """Of each training; None: those of the stage, twice as many for another encoder"""

    @property
    def name(self) -> str:
        """Such as `distilled_pruned`."""
        return "_".join([*(["distilled"] if self.encoder else []), *(["pruned"] if self.ratio else [])])

    def describe(self) -> str:
        """Return what is done, in words."""
        encoder = [f"distilled into {self.encoder}"] if self.encoder else []
        pruned = [f"{self.ratio:.0%} of the channels pruned"] if self.ratio else []
        return ", ".join([*encoder, *pruned])


def make_smaller(path: Path, recipe: Recipe, check: Check, report: Report) -> "tuple[Checkpoint, Config]":
    """Return a smaller model that learned from the checkpoint at `path`, and the configuration of both.

    Args:
        path: a checkpoint of a workspace with its training and validation patients.
        recipe: what becomes smaller.
        check: is given the model before each training.
        report: is given a line before each training, with its duration.

    Raises:
        UsageError: the workspace lacks the patients or the settings, or the model cannot become smaller so.
        ConfigError: there is no such encoder, or the architecture cannot use it.
    """
    from slicewise.models.checkpoint import load_checkpoint
    from slicewise.models.pruning import prune

    keep_freed_memory()
    teacher = load_checkpoint(path)
    training = _Training(path, teacher, recipe, report)
    smaller = teacher
    if recipe.encoder:
        settings = _with_encoder(teacher.model, recipe.encoder)
        check(training.untrained(settings))
        smaller = training.run(settings, None, _LONGER)
    if recipe.ratio:
        model = smaller.build()
        settings = prune(model, recipe.ratio)
        weights = {name: tensor.detach() for name, tensor in model.state_dict().items()}
        start = replace(smaller, weights=weights, model=settings, program=None)
        check(start)
        smaller = training.run(settings, start, 1)
    return smaller, training.config


def _with_encoder(model: Model, encoder: str) -> Model:
    """Return the `model` section with another encoder, with ImageNet's weights where they are here."""
    from slicewise.models.catalogue import find_weights

    if encoder == model.encoder:
        raise UsageError(
            f"--distill {encoder}: the model has this encoder; name a smaller one, or use --prune"
        )
    if model.encoder is None:
        raise UsageError(
            f"--distill: model.architecture={model.architecture} has no other encoders; use --prune"
        )
    changed = {"encoder": encoder, "encoder_weights": None, "widths": None}
    try:
        settings = Model.model_validate({**model.model_dump(), **changed})
    except ValidationError as error:
        raise ConfigError(f"--distill {encoder}: {error}") from error
    here = find_weights(settings) in ("installed", "downloaded")
    return settings.model_copy(update={"encoder_weights": "imagenet" if here else None})


class _Training:
    """Trains models on the patients of a workspace, with the settings that trained the teacher."""

    def __init__(self, path: Path, teacher: "Checkpoint", recipe: Recipe, report: Report) -> None:
        self.teacher, self.recipe, self.report = teacher, recipe, report
        self.config = _compose(path, teacher)
        self._train_set, self._val_set = (self._open(path, subset) for subset in ("train", "val"))

    def _open(self, path: Path, subset: "Subset") -> "SliceDataset":
        return case_dataset(self.config, require_cases(path, self.teacher.preprocessing, subset))

    def untrained(self, settings: Model) -> "Checkpoint":
        """Return a model with random weights."""
        import torch

        from slicewise.models.multitask import MultitaskModel

        plain = settings.model_copy(update={"encoder_weights": None})
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            model = MultitaskModel(plain, self.teacher.tasks, len(self.teacher.preprocessing.channels))
        return replace(self.teacher, weights=model.state_dict(), model=settings, program=None)

    def run(self, settings: Model, start: "Checkpoint | None", longer: int) -> "Checkpoint":
        """Return a model trained from `start`, or from its initial weights."""
        from slicewise.models.checkpoint import CHECKPOINT_NAME, load_checkpoint
        from slicewise.training.stage import train_stage

        name = self.teacher.stage
        stage = _stage_of(self.config.stages[name], self.teacher)
        epochs = self.recipe.epochs or longer * stage.epochs
        stages = {name: stage.model_copy(update={"epochs": epochs})}
        config = self.config.model_copy(update={"model": settings, "stages": stages})
        sets = self._train_set, self._val_set
        with tempfile.TemporaryDirectory() as folder, recipe_wording(config):
            pace, plan, _ = rehearse(name, config, *sets, start, Path(folder, "rehearsal"), self.teacher)
            minutes = stage_seconds(pace, plan) / 60
            what = "fine-tuning" if start else f"training of {settings.encoder}"
            self.report(
                f"{what}: {plan.epochs} epochs of {plan.batches} batches, about {minutes:.1f} minutes"
            )
            out = Path(folder, "stage")
            origin = {"teacher": self.teacher.weights_digest, "recipe": self.recipe.name}
            fingerprint = digest({**origin, "model": settings.model_dump(), "stage": stage.model_dump()})
            train_stage(name, config, *sets, out, start, fingerprint=fingerprint, teacher=self.teacher)
            return load_checkpoint(out / CHECKPOINT_NAME)


def _stage_of(stage: Stage, teacher: "Checkpoint") -> Stage:
    """Return a stage in which every part learns, at the highest of the rates, each task of the teacher."""
    peak = max(dict(stage.learning_rates).values())
    objective = {
        task: (getattr(stage.objective, task) or 1.0) * (task in teacher.tasks.names) for task in PART_OF_TASK
    }
    changes = {
        "starts_from": None,
        "learning_rates": LearningRates(encoder=peak, decoder=peak, head=peak),
        "objective": Objective(**objective),
        "frozen_statistics": False,
        "monitor": LAST_EPOCH,
        "patience": 0,
    }
    return stage.model_copy(update=changes)


def _compose(path: Path, teacher: "Checkpoint") -> Config:
    """Return the configuration that trained a checkpoint, from the receipts of its workspace.

    Raises:
        UsageError: there is none.
    """
    root = workspace_of(path).root
    trained = [
        path.parent,
        *(each.parent for each in root.glob(f"checkpoints/*_{teacher.stage}/{RECEIPT_NAME}")),
    ]
    receipts = [receipt for folder in trained if (receipt := Receipt.read(folder))][:1]
    if not receipts:
        raise UsageError(
            f"{root} has no record of how the stage {teacher.stage} was trained; a smaller model is made "
            "in the workspace of the run that trained the first one"
        )
    receipts += [receipt for name in _RECEIPTS if (receipt := Receipt.read(root / name))]
    settings = {key: value for each in receipts for key, value in each.identity.settings.items()}

    def adapt(tree: dict[str, Any]) -> None:
        tree["data"]["sources"], tree["stages"] = {}, {}
        for key, value in settings.items():
            if key not in _DROPPED:
                *sections, last = key.split(".")
                section = tree
                for each in sections:
                    section = section.setdefault(each, {})
                section[last] = value
        tree["stages"][teacher.stage]["starts_from"] = None
        for name in ("model", "tasks", "preprocessing"):
            tree[name] = getattr(teacher, name).model_dump()

    return compose(adapt=adapt)
