"""What `slicewise clean` deletes: superseded outputs. Work that has not come home yet is not among them.

A kill may leave a finished output on the shelf, from where the next run brings it home; a stop leaves the
state of a stage under `partial`, from where it goes on. Homes stay, and so does `foreign`: what a person had
put into a home can be made by no step.
"""

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json
from slicewise.engine.record import RECORD_NAME
from slicewise.engine.step import Step
from slicewise.engine.workspace import StoredOutput, Workspace, is_empty


@dataclass(frozen=True)
class CleanResult:
    """What a clean freed, and what it left.

    Attributes:
        unfinished: step -> bytes of its unfinished work that was kept.
        waiting: steps that have a finished output on the shelf which has not come home yet.
    """

    freed_bytes: int
    unfinished: Mapping[str, int]
    waiting: tuple[str, ...]


def clean(workspace: Workspace, steps: Sequence[Step[Any]], *, unfinished: bool = False) -> CleanResult:
    """Empty the shelf, what is left of finished or unknown work, and the trash. The caller holds the lock.

    With `unfinished`, the work of steps that were stopped goes too.
    """
    waiting = outputs_not_installed(workspace, steps)
    partial = [] if unfinished else list(_unfinished_work(workspace, steps))
    freed = _empty(workspace.state / "shelf", waiting.keys()) + _empty(workspace.state / "partial", partial)
    freed += _remove(workspace.state / "trash")
    sizes: dict[str, int] = {}
    for folder in partial:
        sizes[folder.parent.name] = sizes.get(folder.parent.name, 0) + _size(folder)
    return CleanResult(freed, sizes, tuple(dict.fromkeys(waiting.values())))


def outputs_not_installed(workspace: Workspace, steps: Sequence[Step[Any]]) -> dict[Path, str]:
    """Return {folder on the shelf: step} of the finished outputs that a kill kept from coming home."""
    last_fingerprints = _last_run(workspace)
    return {
        folder: step.name
        for step in steps
        for output in workspace.outputs(step.name, step.homes)
        if (folder := workspace.shelf(step.name, output.receipt.fingerprint)).is_dir()
        and _is_waiting(workspace, step, output, last_fingerprints.get(step.name))
    }


def _is_waiting(
    workspace: Workspace, step: Step[Any], output: StoredOutput, last_fingerprints: str | None
) -> bool:
    """Whether a slot on the shelf belongs home: that is empty, another slot is there, or it was made last."""
    homes = {slot: workspace.home(home) for slot, home in step.homes.items()}
    shelved = [slot for slot, folder in output.folders.items() if folder != homes[slot]]
    partly_home = 0 < len(shelved) < len(output.folders)
    made_last = output.receipt.fingerprint == last_fingerprints
    return bool(shelved) and (partly_home or made_last or any(is_empty(homes[slot]) for slot in shelved))


def _last_run(workspace: Workspace) -> dict[str, str]:
    """Return {step: fingerprint} of what the last run made, used or was at."""
    try:
        steps = read_json(workspace.root / RECORD_NAME)["steps"]
        return {name: step["fingerprint"] for name, step in steps.items()}
    except (FileNotFoundError, WorkspaceError, KeyError, TypeError, AttributeError):
        return {}


def _unfinished_work(workspace: Workspace, steps: Sequence[Step[Any]]) -> Iterator[Path]:
    """Yield the folders of work whose output is not there yet."""
    for step in steps:
        output = workspace.outputs(step.name, step.homes)
        complete = {
            candidate.receipt.fingerprint
            for candidate in output
            if candidate.folders.keys() == step.homes.keys()
        }
        finished = {workspace.partial(step.name, fingerprint) for fingerprint in complete}
        if step.homes:  # a service leaves nothing to go on with
            yield from sorted({*(workspace.state / "partial" / step.name).glob("*")} - finished)


def _empty(folder: Path, keep: Collection[Path]) -> int:
    """Delete what a folder holds for each step, but for `kept`; return the bytes freed."""
    freed = sum(_remove(path) for path in folder.glob("*/*") if path not in keep)
    for folder_left in folder.glob("*"):
        with suppress(OSError):  # not empty
            folder_left.rmdir()
    return freed


def _remove(folder: Path) -> int:
    size = _size(folder)
    shutil.rmtree(folder, ignore_errors=True)
    return size


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
