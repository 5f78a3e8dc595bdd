"""What a stage leaves in its folder, besides the state it goes on from."""

import time
from pathlib import Path
from typing import Final

from slicewise.config.schema.training import StageName
from slicewise.data.loading.dataset import SliceDataset
from slicewise.models.checkpoint import save_checkpoint
from slicewise.plots.curves import draw_curves
from slicewise.training.history import write_history
from slicewise.training.learner import Learner
from slicewise.training.samples import draw_samples
from slicewise.training.state import Metrics, Progress

BEST_NAME: Final = "best_model.pth"
_CURVES_SECONDS: Final = 30.0


class StageArtifacts:
    """Writes best_model.pth, history.csv, curves.png and samples/."""

    def __init__(
        self, name: StageName, out_dir: Path, fingerprint: str, learner: Learner, val_set: SliceDataset
    ) -> None:
        self._name, self._out_dir, self._fingerprint = name, out_dir, fingerprint
        self._learner, self._val_set = learner, val_set
        self._drawn_at = time.monotonic()

    def save_best(self, metrics: Metrics) -> None:
        """Keep the network as it is now."""
        checkpoint = self._learner.checkpoint(self._name, self._fingerprint, metrics)
        save_checkpoint(self._out_dir / BEST_NAME, checkpoint)

    def report(self, progress: Progress) -> None:
        """Write the figures so far; the curves take half a second, so not after each of many short epochs."""
        write_history(self._out_dir / "history.csv", progress.rows)
        if progress.finished or time.monotonic() - self._drawn_at > _CURVES_SECONDS:
            draw_curves(self._out_dir / "curves.png", self._name, progress.rows, progress.best_epoch)
            self._drawn_at = time.monotonic()
        number = self._learner.config.training.sample_predictions
        if number:
            path = self._out_dir / "samples" / f"epoch_{progress.epoch:03d}.png"
            draw_samples(path, self._learner, self._val_set, number)
