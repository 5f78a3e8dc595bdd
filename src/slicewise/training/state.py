"""Where a stage stands, and the file from which it goes on at the very batch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError

from slicewise.core.errors import CheckpointError
from slicewise.models.checkpoint import STATE_FORMAT, load_safely, save_safely

VERSION: Final = 2

Metrics = dict[str, int | float]
"""Not `float` alone: reading would turn whole numbers into fractions, and a resumed stage would differ."""


@dataclass
class Progress:
    """All that a stage remembers besides tensors."""

    epoch: int = 0
    """Epochs that are finished"""
    iteration: int = 0
    """Batches of the current epoch that are done"""
    step: int = 0
    """Optimiser steps so far"""
    sums: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)
    """Total, mask and classification loss times batch size, and number of slices, in the current epoch"""
    best_epoch: int = 0
    """The epoch whose weights are saved: the latest that is not significantly worse than the top one. 0 is
    the model that the stage began with"""
    best_metrics: Metrics = field(default_factory=dict)
    top_score: float | None = None
    top_epoch: int = 0
    """The epoch with the highest score of those that were kept so far"""
    top_values: dict[str, list[float]] = field(default_factory=dict)
    """Its monitored figures patient by patient, see `doubt`"""
    start_metrics: Metrics = field(default_factory=dict)
    """Of the model that the stage began with, where that may be kept"""
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
    def stale_epochs(self) -> int:
        """Epochs since the highest score."""
        return self.epoch - self.top_epoch

    @property
    def rows(self) -> list[Metrics]:
        """The history, and as epoch 0 the model that the stage began with, where that may be kept."""
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
    """Read `last.pth`; None where there is none, or where it belongs to another run.

    Raises:
        CheckpointError: the file is damaged or foreign.
    """
    if not path.exists():
        return None
    content = load_safely(path)
    if not isinstance(content, dict) or content.get("format") != STATE_FORMAT:
        raise CheckpointError(f"{path} is no training state; move it aside and train again")
    if (content.get("version"), content.get("fingerprint")) != (VERSION, fingerprint):
        return None
    try:
        progress = _CHECKED.validate_python(content.pop("progress"))
    except (KeyError, ValidationError) as error:
        raise CheckpointError(f"{path} lacks or misstates {error}; move it aside and train again") from error
    return progress, content
