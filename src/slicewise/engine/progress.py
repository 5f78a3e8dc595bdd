"""`.slicewise/progress.json`: what a run is doing, for other terminals.

A thread writes it once a second from the numbers that the progress bars keep, so that the work itself does
not notice. It is no record: it is not forced to the disk, and it goes when the command ends.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from slicewise.core.activity import current

PROGRESS_NAME = "progress.json"
_INTERVAL_SECONDS = 1.0


@contextmanager
def publish_progress(folder: Path, command: str) -> Iterator[None]:
    """Keep the progress file in `folder` while the block runs."""
    path = folder / PROGRESS_NAME
    started, stop = time.time(), threading.Event()

    def keep() -> None:
        while not stop.wait(_INTERVAL_SECONDS):
            _write(path, {"command": command, "started": started, **_snapshot()})

    thread = threading.Thread(target=keep, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        path.unlink(missing_ok=True)


def read_progress(folder: Path) -> dict[str, Any] | None:
    """Return what is under way, or None where nothing was written."""
    try:
        progress: dict[str, Any] = json.loads((folder / PROGRESS_NAME).read_bytes())
        return progress if {"command", "started", "step", "job"} <= set(progress) else None
    except (OSError, ValueError, TypeError):
        return None


def _snapshot() -> dict[str, Any]:
    step, job = current()
    return {"step": asdict(step) if step else None, "job": asdict(job) if job else None}


def _write(path: Path, value: dict[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_text(json.dumps(value), encoding="utf-8")
        temporary.replace(path)
    except OSError:  # a full disk is told by the work itself; this file is not worth a failure
        return
