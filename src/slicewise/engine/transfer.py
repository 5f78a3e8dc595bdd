"""Push an output of a workspace to a remote one, and pull one from there to the place where it belongs."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import PurePosixPath
from typing import Any, Final

from slicewise.core.disk import require_space
from slicewise.core.errors import RemoteError
from slicewise.core.files import sweep, write_json
from slicewise.engine.receipt import (
    ORIGIN_NAME,
    RECEIPT_NAME,
    SUSPECTS_NAME,
    FileChecksum,
    Identity,
    Receipt,
    describe_changes,
    join_reasons,
    product_digest,
)
from slicewise.engine.record import utc_now
from slicewise.engine.remote import Remote, Transfer
from slicewise.engine.step import Step
from slicewise.engine.workspace import StoredOutput, Workspace

_NOTES: Final = (RECEIPT_NAME, SUSPECTS_NAME, ORIGIN_NAME)
_SHARED_FOLDER: Final = "data"
"""The only folder in which an output may have files outside its homes"""


@dataclass(frozen=True)
class Push:
    """What a push of an output uploads: the files that are not there yet, and its receipt where that is new.

    Attributes:
        conflict: where another output of these settings is there, when that was made; it stays.
    """

    receipt: Receipt
    missing: Sequence[Transfer]
    is_new: bool
    conflict: str | None = None

    @property
    def num_bytes(self) -> int:
        return sum(each.checksum.size for each in self.missing)


def plan_push(
    remote: Remote, workspace: Workspace, output: StoredOutput, without: Sequence[str] = ()
) -> Push:
    """Return what a push would upload; files that match a pattern of `without` stay here, unlisted.

    Raises:
        RemoteError: a file was changed since it was made, or the remote cannot be read.
    """
    files = {
        slot: {name: each for name, each in table.items() if not any(fnmatch(name, glob) for glob in without)}
        for slot, table in output.receipt.files.items()
    }
    receipt, there = replace(output.receipt, files=files), None
    with suppress(RemoteError):  # a damaged receipt is replaced; a remote that cannot be used fails below
        there = remote.receipt(receipt.identity.step, receipt.fingerprint)
    ours, theirs = _contents(receipt), _contents(there) if there else {}
    if there and not (ours.items() <= theirs.items() or theirs.items() <= ours.items()):
        return Push(receipt, (), is_new=False, conflict=there.report.made_at)
    transfers = [
        *_transfers(receipt, output.folders),
        *(Transfer(workspace.root / name, each) for name, each in receipt.shared.items()),
    ]
    if faults := join_reasons(
        f"{each.path} {fault}" for each in transfers if (fault := each.checksum.fault(each.path))
    ):
        raise RemoteError(f"{faults} since it was made; `slicewise verify` lists all such files")
    is_new = there is None or not ours.items() <= theirs.items()
    return Push(receipt, remote.missing(transfers), is_new)


def push(remote: Remote, planned: Push) -> None:
    """Upload what is missing, the receipt last.

    Raises:
        RemoteError: a file was changed since it was made, or the remote cannot be written.
    """
    remote.upload(planned.missing)
    if planned.is_new:
        remote.write_receipt(planned.receipt)


def pull(
    remote: Remote, workspace: Workspace, steps: Sequence[Step[Any]], step: Step[Any], receipt: Receipt
) -> int:
    """Download an output to the folder of work in progress, check it, and move it home; return its bytes.

    What its home holds moves to the shelf. A stopped pull continues with the files that it has. `steps` are
    all of the pipeline: no file may lie in the home of another one. The caller holds the lock.

    Raises:
        RemoteError: a file is missing or not what the receipt says, or the receipt is none of this step.
    """
    _require_sound(remote, steps, step, receipt)
    partial = workspace.state / "pull" / step.name / receipt.fingerprint[:16]
    folders = {slot: partial / slot for slot in receipt.files}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    sweep(partial, deep=True)
    own = [*_transfers(receipt, folders)]
    for path in {path for path in partial.rglob("*") if path.is_file()} - {each.path for each in own}:
        path.unlink()  # of an attempt at another receipt
    shared = [Transfer(workspace.root / name, each) for name, each in receipt.shared.items()]
    missing = [each for each in own if each.checksum.fault(each.path, read=True)]
    missing += [each for each in shared if not _is_there(remote, workspace, each)]
    require_space(workspace.root, sum(each.checksum.size for each in missing), f"a pull of {step.name}")
    remote.download(missing)
    for each in missing:  # the plan compares size and time
        os.utime(each.path, ns=(each.checksum.mtime_ns, each.checksum.mtime_ns))
    for folder in folders.values():
        write_json(folder / ORIGIN_NAME, {"pulled_from": remote.name, "pulled_at": utc_now()})
    workspace.shelve(step, receipt, partial)
    if output := workspace.find(step, receipt.fingerprint):
        workspace.install(step, output)
    return sum(each.checksum.size for each in missing)


def explain_absence(remote: Remote, identity: Identity) -> str:
    """Return why the output of an identity cannot be pulled: what the nearest one there has that differs."""
    changes: list[list[str]] = [
        describe_changes(each.identity, identity) for each in remote.receipts(identity.step)
    ]
    if not changes:
        return f"{remote.name} has no output of it"
    nearest = join_reasons(sorted(changes, key=len)[0])
    others = "one has" if len(changes) == 1 else f"{len(changes)} have, the nearest"
    return f"{remote.name} has no output with these settings; {others} other ones (there -> here): {nearest}"


def _contents(receipt: Receipt) -> dict[str, str]:
    own = {f"{slot}/{name}": c.sha256 for slot, table in receipt.files.items() for name, c in table.items()}
    return own | {f"shared:{name}": c.sha256 for name, c in receipt.shared.items()}


def _transfers(receipt: Receipt, folders: Any) -> Iterator[Transfer]:
    for slot, table in receipt.files.items():
        for name, checksum in table.items():
            yield Transfer(folders[slot] / name, checksum)


def _is_there(remote: Remote, workspace: Workspace, transfer: Transfer) -> bool:
    """Whether a shared file is here already.

    Raises:
        RemoteError: another file has its name.
    """
    fault = transfer.checksum.fault(transfer.path, read=True)
    if fault and transfer.path.exists():
        raise RemoteError(
            f"{workspace.relative(transfer.path)} is here with another content than in {remote.name}, and is "
            "kept; move it away, or pull into another --workspace"
        )
    return fault is None


def _require_sound(remote: Remote, steps: Sequence[Step[Any]], step: Step[Any], receipt: Receipt) -> None:
    """Refuse a receipt that no run of the step can have written."""
    fault = next(_faults(steps, step, receipt), None)
    if fault is not None:
        raise RemoteError(
            f"{remote.name}: the receipt of {step.name} {receipt.fingerprint[:12]} {fault}; it is not used"
        )


def _faults(steps: Sequence[Step[Any]], step: Step[Any], receipt: Receipt) -> Iterator[str]:
    if receipt.files.keys() != step.homes.keys():
        yield f"has the folders {', '.join(receipt.files)[:80]} in place of {', '.join(step.homes)}"
    names = [name for table in receipt.files.values() for name in table]
    if notes := [name for name in names if PurePosixPath(name).name in _NOTES]:
        yield f"lists {notes[0]}, a file of the workspace itself"
    homes = [PurePosixPath(home) for each in steps for home in each.homes.values()]
    for name in receipt.shared:
        path = PurePosixPath(name)
        if path.parts[0] != _SHARED_FOLDER or any(path.is_relative_to(home) for home in homes):
            yield f"lists {name[:80]}, which is no file of {step.name}"
    sizes: list[FileChecksum] = [
        each for table in (*receipt.files.values(), receipt.shared) for each in table.values()
    ]
    if any(each.size < 0 for each in sizes):
        yield "has a file with a negative size"
    if receipt.product != product_digest(receipt.files, step.product, receipt.shared):
        yield "contradicts itself: its product is not that of its files"
