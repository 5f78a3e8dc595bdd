"""`.slicewise/progress.json`: what a run is doing, for other terminals.

A thread writes it once a second from the state of the progress bars. It is no record: it is not forced to the
disk, and it is removed when the command ends.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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

    def publish() -> None:
        temporary = path.with_name(f".{path.name}.new")
        while not stop.wait(_INTERVAL_SECONDS):
            step, job = (asdict(part) if part else None for part in current())
            state = {"command": command, "started": started, "step": step, "job": job}
            with suppress(OSError):  # the work itself reports a full disk
                temporary.write_text(json.dumps(state), encoding="utf-8")
                temporary.replace(path)

    thread = threading.Thread(target=publish, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        path.unlink(missing_ok=True)


def read_progress(folder: Path) -> dict[str, Any] | None:
    """Return what a run is doing, or None where no valid file was written."""
    try:
        progress: dict[str, Any] = json.loads((folder / PROGRESS_NAME).read_bytes())
        return progress if {"command", "started", "step", "job"} <= set(progress) else None
    except (OSError, ValueError, TypeError):
        return None
