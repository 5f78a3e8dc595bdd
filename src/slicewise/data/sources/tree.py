"""The files below a data folder, in an order that is the same on every machine."""

import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, NoReturn

from slicewise.core.errors import DataError
from slicewise.data.problems import Problem
from slicewise.imaging.io.file_format import explain_skipped

_NOT_DATA: Final = ("__MACOSX", "lost+found", "System Volume Information", "$RECYCLE.BIN")
"""Added by operating systems to archives and disks; often unreadable."""


def natural_key(text: str) -> tuple[tuple[bool, int, str], ...]:
    """Return a key that sorts `x_9` before `x_10`, whatever the letter case."""
    parts = re.findall(r"\d+|\D+", text)
    return tuple((not part.isdecimal(), int(part) if part.isdecimal() else 0, part.lower()) for part in parts)


def partition_files(root: Path, is_read: Callable[[Path], bool]) -> tuple[list[Path], list[Path]]:
    """Return the files below `root` that are read and the others, each in natural order.

    Hidden files and those of operating systems (`__MACOSX`) are skipped. Links are followed, each folder
    once, under its first name in alphabetical order.

    Raises:
        DataError: `root` is not a folder, a folder cannot be read, or the name of a file that is read is not
            UTF-8.
    """
    read: list[Path] = []
    others: list[Path] = []
    for path in _walk(root):
        (read if is_read(path) else others).append(path)
    for path in read:
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"{str(path)!r} is not UTF-8; rename it (`convmv -f latin1 -t utf8 --notest -r FOLDER` "
                "converts the names of an older system), or move it out of the data set"
            ) from error
    return read, others


def note_skipped(others: Collection[Path]) -> list[Problem]:
    """Return a note for each file that is not read: why, and what to do if it should be."""
    printable = (Path(os.fsencode(path).decode(errors="replace")) for path in others)
    return [
        Problem(shown, explain_skipped(path), "note") for shown, path in zip(printable, others, strict=True)
    ]


def _walk(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; set the `path` of the source to one that is")
    paths: list[Path] = []
    visited: set[str] = set()
    for folder, names, files in os.walk(root, onerror=_refuse, followlinks=True):
        real = os.path.realpath(folder)
        names[:] = [] if real in visited else sorted(name for name in names if not _is_hidden(name))
        if real not in visited:
            paths += [Path(folder, name) for name in files if not _is_hidden(name)]
        visited.add(real)
    return sorted(paths, key=lambda path: (natural_key(path.as_posix()), path.as_posix()))


def _refuse(error: OSError) -> NoReturn:
    """Raise for a folder that cannot be read: its patients would be missing without notice."""
    raise DataError(
        f"{error.filename} cannot be read ({error.strerror}); let the user of this run read it "
        "(`chmod -R a+rX FOLDER`), or move it out of the data set"
    ) from error


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _NOT_DATA
