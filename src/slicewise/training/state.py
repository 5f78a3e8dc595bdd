"""The progress of a stage, and the file from which it resumes at the same batch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError

from slicewise.core.errors import CheckpointError
from slicewise.models.checkpoint import STATE_FORMAT
from slicewise.models.safe_loading import load_safely, save_safely

VERSION: Final = 3

Metrics = dict[str, int | float]
"""Not `float` alone: reading would turn whole numbers into fractions, and a resumed stage would differ."""


@dataclass
class Progress:
    """All that a stage has to remember besides tensors."""

    epoch: int = 0
    """Epochs that are finished"""
    iteration: int = 0
    """Batches of the current epoch that are done"""
    step: int = 0
    """Optimiser steps so far"""
    sums: tuple[float, ...] = ()
    """Total loss and that of each task times batch size, and number of slices, in the current epoch"""
    best_epoch: int = 0
    """The epoch whose weights are saved, see `model_selection`; 0: the initial weights"""
    best_metrics: Metrics = field(default_factory=dict)
    top_score: float | None = None
    top_epoch: int = 0
    """The epoch with the highest score among those that were the best one at their time"""
    top_values: dict[str, list[float]] = field(default_factory=dict)
    """Its monitored metrics patient by patient, see `Task.contributions`"""
    start_metrics: Metrics = field(default_factory=dict)
    """Of the initial weights, where they may be kept"""
    history: list[Metrics] = field(default_factory=list)
    seconds: float = 0.0
    """Spent on training batches"""
    num_images: int = 0
    """Slices trained on"""
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    """Of the computation, from the first batch of the stage on"""
    num_threads: int = 0
    """In the current epoch; 0 before the first"""
    finished: bool = False

    @property
    def rows(self) -> list[Metrics]:
        """The history, with the initial weights as epoch 0 where they may be kept."""
        start: list[Metrics] = [{"epoch": 0, **self.start_metrics}] if self.start_metrics else []
        return start + self.history

    def __str__(self) -> str:
        return f"epoch {self.epoch + 1}, batch {self.iteration}"


_CHECKED: Final = TypeAdapter(Progress)


def save_state(path: Path, fingerprint: str, progress: Progress, tensors: Mapping[str, Any]) -> None:
    """Write `last.pth` atomically."""
    head = {"format": STATE_FORMAT, "version": VERSION, "fingerprint": fingerprint}
    save_safely(path, {**head, "progress": asdict(progress), **tensors})


def load_state(path: Path, fingerprint: str) -> tuple[Progress, dict[str, Any]] | None:
    """Return progress and tensors of `last.pth`; None where it is missing or belongs to another run.

    Raises:
        CheckpointError: the file is damaged or of another kind.
    """
    if not path.exists():
        return None
    content = load_safely(path)
    if not isinstance(content, dict) or content.get("format") != STATE_FORMAT:
        raise CheckpointError(f"{path} is not a training state; move it aside and train again")
    if (content.get("version"), content.get("fingerprint")) != (VERSION, fingerprint):
        return None
    try:
        progress = _CHECKED.validate_python(content.pop("progress"))
    except (KeyError, ValidationError) as error:
        raise CheckpointError(f"{path} lacks or misstates {error}; move it aside and train again") from error
    return progress, content
