"""What `slicewise clean` deletes: superseded outputs, but no finished output that is not yet in its home.

A kill may leave a finished output on the shelf, from where the next run moves it home; a stop leaves the
state of a stage under `partial`, from where it continues. Homes stay, and so does `foreign`: no step can make
what a person had put into a home.
"""

import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json
from slicewise.engine.record import RECORD_NAME
from slicewise.engine.workspace import HasHomes, Workspace, is_empty


@dataclass(frozen=True)
class CleanResult:
    """What a clean freed, and what it left.

    Attributes:
        unfinished: step -> bytes of its unfinished work that was kept.
        waiting: steps with a finished output on the shelf that is not yet in its home.
    """

    freed_bytes: int
    unfinished: Mapping[str, int]
    waiting: tuple[str, ...]


def clean(workspace: Workspace, steps: Sequence[HasHomes], *, unfinished: bool = False) -> CleanResult:
    """Empty the shelf, the rest of finished or unknown work, and the trash. The caller holds the lock.

    With `unfinished`, the work of steps that were stopped goes too.
    """
    waiting = outputs_not_installed(workspace, steps)
    partial = [] if unfinished else list(_unfinished_work(workspace, steps))
    freed = _empty(workspace.state / "shelf", waiting.keys()) + _empty(workspace.state / "partial", partial)
    freed += _remove(workspace.state / "trash")
    sizes: dict[str, int] = {}
    for folder in partial:
        sizes[folder.parent.name] = sizes.get(folder.parent.name, 0) + folder_bytes(folder)
    return CleanResult(freed, sizes, tuple(dict.fromkeys(waiting.values())))


def outputs_not_installed(workspace: Workspace, steps: Sequence[HasHomes]) -> dict[Path, str]:
    """Return {folder on the shelf: step} of the finished outputs that a kill kept from being moved home.

    These are outputs with a slot on the shelf whose home is empty, those with another slot in its home, and
    those that the last run made.
    """
    try:
        records = read_json(workspace.root / RECORD_NAME)["steps"]
        last_fingerprints = {name: step["fingerprint"] for name, step in records.items()}
    except (FileNotFoundError, WorkspaceError, KeyError, TypeError, AttributeError):
        last_fingerprints = {}
    waiting = {}
    for step in steps:
        homes = {slot: workspace.home(home) for slot, home in step.homes.items()}
        for output in workspace.outputs(step):
            fingerprint = output.receipt.fingerprint
            shelved = [homes[slot] for slot, folder in output.folders.items() if folder != homes[slot]]
            belongs_home = (
                len(shelved) < len(output.folders)
                or fingerprint == last_fingerprints.get(step.name)
                or any(map(is_empty, shelved))
            )
            folder = workspace.shelf(step.name, fingerprint)
            if shelved and belongs_home and folder.is_dir():
                waiting[folder] = step.name
    return waiting


def _unfinished_work(workspace: Workspace, steps: Sequence[HasHomes]) -> Iterator[Path]:
    """Yield the folders of work in progress whose output does not exist yet."""
    for step in steps:
        finished = {
            workspace.partial(step.name, output.receipt.fingerprint)
            for output in workspace.outputs(step)
            if output.folders.keys() == step.homes.keys()
        }
        if step.homes:  # a service leaves nothing to continue
            folders = (workspace.state / "partial" / step.name).glob("*")
            yield from sorted(path for path in folders if path.with_suffix("") not in finished)  # .<token>


def _empty(folder: Path, keep: Collection[Path]) -> int:
    """Delete what a folder holds for each step, except `keep`; return the bytes freed."""
    freed = sum(_remove(path) for path in folder.glob("*/*") if path not in keep)
    for step_folder in folder.glob("*"):
        with suppress(OSError):  # not empty
            step_folder.rmdir()
    return freed


def _remove(folder: Path) -> int:
    size = folder_bytes(folder)
    shutil.rmtree(folder, ignore_errors=True)
    return size


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
