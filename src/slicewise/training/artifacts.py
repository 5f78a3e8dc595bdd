"""The files that a stage leaves in its folder, besides the state from which it resumes."""

import csv
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from slicewise.core.files import write_text
from slicewise.data.loading.dataset import SliceDataset
from slicewise.models.checkpoint import CHECKPOINT_NAME, save_checkpoint
from slicewise.plots.curves import draw_curves
from slicewise.training.learner import Learner
from slicewise.training.samples import draw_samples
from slicewise.training.state import Metrics, Progress

_CURVES_SECONDS: Final = 30.0


class StageArtifacts:
    """Writes best_model.pth, history.csv, curves.png and samples/."""

    def __init__(
        self, name: str, out_dir: Path, fingerprint: str, learner: Learner, val_set: SliceDataset
    ) -> None:
        self._name, self._out_dir, self._fingerprint = name, out_dir, fingerprint
        self._learner, self._val_set = learner, val_set
        self._drawn_at = time.monotonic()

    def save_best(self, metrics: Metrics) -> None:
        """Save the model as it is now."""
        checkpoint = self._learner.checkpoint(self._name, self._fingerprint, metrics)
        save_checkpoint(self._out_dir / CHECKPOINT_NAME, checkpoint)

    def report(self, progress: Progress) -> None:
        """Write history and figures; the curves take half a second, so not after every short epoch."""
        tasks = self._learner.model.tasks.values()
        metrics: dict[str, str] = {}
        for task in tasks:
            metrics |= task.columns(self._val_set.source_names)
        train, val = (
            [f"{kind}_loss", *(f"{kind}_{task.head}_loss" for task in tasks)] for kind in ("train", "val")
        )
        write_history(
            self._out_dir / "history.csv",
            ["epoch", "learning_rate", *train, *val, *metrics, "score", "seconds", "num_threads"],
            progress.rows,
        )
        if progress.finished or time.monotonic() - self._drawn_at > _CURVES_SECONDS:
            draw_curves(self._out_dir / "curves.png", self._name, progress.rows, progress.best_epoch, metrics)
            self._drawn_at = time.monotonic()
        number = self._learner.config.training.sample_predictions
        if number:
            path = self._out_dir / "samples" / f"epoch_{progress.epoch:03d}.png"
            draw_samples(path, self._learner, self._val_set, number)


def write_history(path: Path, columns: Sequence[str], rows: Sequence[Metrics]) -> None:
    """Write one line per epoch, 0 for the start; a figure that a line does not have is left blank."""
    stream = io.StringIO()
    table = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
    write_text(path, stream.getvalue())
