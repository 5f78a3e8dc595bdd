"""Fencing: of several processes that work at one thing, at most one may say that it is finished.

Each takes a number, its fencing token, larger than all before it, and ends the earlier ones. Two files per
number decide, `<number>.claim` and `<number>.end`; each is created once, never changed, and can be created by
one process only, also on NFS. A process that was given up finds that its end exists already, however late it
wakes up, and by whatever clock. Neither `flock` nor the time of a file is used.
"""

import errno
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json

FULL_DISK: Final = (errno.ENOSPC, errno.EDQUOT)
_KEPT: Final = 100
"""Numbers whose files stay; a list of the folder that is out of date by that many is none of NFS."""


class FencedError(WorkspaceError):
    """Another process has taken the work over; nothing may be written any more."""


@dataclass(frozen=True)
class Fence:
    """A place in the order of those who worked at one thing.

    Attributes:
        folder: the files of all of them.
        number: the fencing token, from 1.
    """

    folder: Path
    number: int

    @classmethod
    def claim(cls, folder: Path, **note: Any) -> "Fence":
        """Take the next number; `note` is kept beside it, with the host and the process."""
        folder.mkdir(parents=True, exist_ok=True)
        number = max(numbers(folder), default=0) + 1
        note |= {"host": socket.gethostname(), "pid": os.getpid(), "nonce": os.urandom(8).hex()}
        while not _create(folder / f"{number}.claim", note):
            number += 1
        for old in (each for each in numbers(folder) if each <= number - _KEPT):
            for path in (folder / f"{old}.claim", folder / f"{old}.end"):
                path.unlink(missing_ok=True)
        return cls(folder, number)

    def earlier(self) -> dict[int, dict[str, Any]]:
        """Return {number: note} of those before this one, the latest first."""
        return {
            number: read_json(self.folder / f"{number}.claim")
            for number in sorted(numbers(self.folder), reverse=True)
            if number < self.number
        }

    def end(self, number: int, **note: Any) -> dict[str, Any]:
        """End a number, unless it has ended; return the note of its end, whoever wrote it."""
        note = {**note, "nonce": os.urandom(8).hex()}
        ended = end_of(self.folder, number)
        if ended is None and _create(self.folder / f"{number}.end", note):
            return note
        return ended or read_json(self.folder / f"{number}.end")

    def end_earlier(self) -> dict[int, dict[str, Any]]:
        """End all before this one; return the notes of their ends, by number. One may have committed."""
        earlier = sorted(number for number in numbers(self.folder) if number < self.number)
        return {number: self.end(number, state="fenced", by=self.number) for number in earlier}

    def commit(self, **note: Any) -> None:
        """Say that the work of this number is finished; its output may then be moved into place.

        Raises:
            FencedError: another process has taken the work over.
        """
        end = self.end(self.number, **note, state="committed")
        if end["state"] != "committed":
            raise self._error(end)

    def require(self) -> None:
        """Raise FencedError if another process has taken the work over."""
        end = end_of(self.folder, self.number)
        if end is not None and end["state"] == "fenced":
            raise self._error(end)

    def _error(self, end: Mapping[str, Any]) -> FencedError:
        path = self.folder / f"{end.get('by')}.claim"
        holder = read_json(path) if path.is_file() else {}
        return FencedError(
            f"{self.folder.name}: token {self.number} was given up for {end.get('by')}, of process "
            f"{holder.get('pid', '?')} on {holder.get('host', '?')}; this process writes nothing any more"
        )


def take_over(folder: Path, **note: Any) -> Fence | None:
    """Claim the next number and end all before it; return None on a full disk, which must be cleaned."""
    try:
        fence = Fence.claim(folder, **note)
        fence.end_earlier()
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        return None
    return fence


def adopt(partials: Path, key: str, fence: Fence) -> Path:
    """Take over the work of the attempt before this one, or of a local run, which began after all of these.

    Returns the folder for this attempt, which need not exist. What an earlier attempt still writes, if it
    wakes up, goes nowhere.
    """
    mine = partials / f"{key}.{fence.number}"
    before = sorted((each for each in numbers(fence.folder) if each < fence.number), reverse=True)
    for path in (partials / name for name in (key, *(f"{key}.{number}" for number in before))):
        if path.is_dir():
            path.rename(mine)
            break
    return mine


def numbers(folder: Path) -> list[int]:
    """Return the numbers that were claimed in a folder, in no order."""
    return [int(path.stem) for path in folder.glob("*.claim")]


def end_of(folder: Path, number: int) -> dict[str, Any] | None:
    """Return the note of the end of a number, or None where it has not ended."""
    try:
        note: dict[str, Any] = read_json(folder / f"{number}.end")
    except FileNotFoundError:
        return None
    return note


def _create(path: Path, note: Mapping[str, Any]) -> bool:
    """Create a file with its whole content; return whether it is ours.

    A link is made by the server of NFS at once or not at all. Its answer may be lost and the request
    repeated, which then fails: the content says whose file it is.
    """
    temporary = path.with_name(f".{path.name}.{note['nonce']}")
    try:
        with temporary.open("x", encoding="utf-8") as stream:
            json.dump(dict(note), stream)
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(temporary, path)
        except FileExistsError:
            return bool(read_json(path).get("nonce") == note["nonce"])
        except OSError:  # a file system without hard links
            try:
                with path.open("x", encoding="utf-8") as stream:
                    json.dump(dict(note), stream)
            except FileExistsError:
                return False
    finally:
        temporary.unlink(missing_ok=True)
    return True
