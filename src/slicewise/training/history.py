"""The figures of every epoch, as a table anyone can open."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from slicewise.core.files import write_text
from slicewise.training.state import Metrics

COLUMNS: Final = (
    "epoch",
    "learning_rate",
    "train_loss",
    "train_mask_loss",
    "train_class_loss",
    "val_loss",
    "val_mask_loss",
    "val_class_loss",
    "dice",
    "auc",
    "auc_volumes",
    "auc_pictures",
    "score",
    "seconds",
    "num_threads",
)


def write_history(path: Path, rows: Sequence[Metrics]) -> None:
    """Write one line per epoch, 0 for the start; a figure that a line does not have is left blank."""
    stream = io.StringIO()
    table = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
    write_text(path, stream.getvalue())
