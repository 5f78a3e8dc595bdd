"""A disk that is full, read-only or closed to us, or a path in the way: recognised and told in one way."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from slicewise.core.errors import UsageError, WorkspaceError

MIB: Final = 1 << 20

_FULL: Final = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file grew over the largest size allowed here (ulimit -f, or the file system's own)",
}
_REFUSED: Final = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "not permitted",
    errno.EXDEV: "it is on another disk than .slicewise, from where an output comes home by one rename",
}

_MISPLACED: Final = {
    errno.ENOTDIR: "a file lies where a folder would have to be",
    errno.EISDIR: "a folder lies where a file would have to be",
}


def set_filename(error: BaseException, path: Path) -> None:
    """Note in the OSErrors behind `error` which file they were about; those of a write do not say."""
    for link in _chain(error):
        if isinstance(link, OSError) and link.errno is not None and link.filename is None:
            link.filename = str(path)


def find_disk_error(error: BaseException) -> OSError | None:
    """Return the OSError about a full or closed disk that is behind `error`, if there is one."""
    return next((link for link in _chain(error) if isinstance(link, OSError) and _is_disk_error(link)), None)


def is_disk_full(error: OSError) -> bool:
    """Whether there was no room to write: space, files or quota are used up."""
    return error.errno in _FULL


def describe_disk_error(error: OSError) -> str:
    """Return in words why a disk refused, without a path."""
    words = {**_FULL, **_REFUSED, **_MISPLACED, errno.ENOENT: "the folder does not exist"}
    return words.get(error.errno or 0) or (error.strerror or str(error)).lower()


def explain_disk_error(
    error: BaseException, folder: Path, needed_bytes: int = 0, option: str = "--workspace"
) -> WorkspaceError | None:
    """Return what to tell about a full or closed disk; None where the error is about something else.

    Args:
        error: what was raised; libraries hide the cause behind errors of their own.
        folder: where the work was, for errors that name no file.
        needed_bytes: what the work was estimated to need in all; 0 where that is not known.
        option: of the command line, which names another folder for what could not be written.
    """
    fault = find_disk_error(error)
    if fault is None:
        return None
    path = Path(os.fsdecode(fault.filename)) if isinstance(fault.filename, str | bytes) else folder
    if fault.errno in _MISPLACED:
        return WorkspaceError(
            f"{path} cannot be written: {_MISPLACED[fault.errno]}; move it away, or choose another folder "
            f"({option} for outputs), then run the same command again; what was finished is kept"
        )
    if fault.errno in _REFUSED:
        target = f" -> {os.fsdecode(fault.filename2)}" if fault.filename2 else ""
        return WorkspaceError(
            f"{path}{target}: {_REFUSED[fault.errno]}; change its permissions, or choose another folder "
            f"({option} for outputs), then run the same command again; what was finished is kept"
        )
    assert fault.errno is not None
    need = f", about {needed_bytes / MIB:,.0f} MiB were needed in all" if needed_bytes else ""
    return WorkspaceError(
        f"{path} cannot be written: {_FULL[fault.errno]} ({describe_free_space(path)}{need}); free some "
        f"space (`slicewise clean` deletes superseded outputs) or choose another folder with {option}, then "
        "run the same command again; what was finished is kept"
    )


def describe_free_space(path: Path) -> str:
    """Say how much is free on the disk that holds `path`, which need not exist."""
    try:
        existing = existing_parent(path)
        usage, files = shutil.disk_usage(existing), os.statvfs(existing)
    except OSError:
        return "free space unknown"
    no_files = ", but no further file (inode)" if files.f_files and not files.f_favail else ""
    return f"{usage.free / MIB:,.1f} MiB free of {usage.total / MIB:,.0f}{no_files}"


def existing_parent(path: Path) -> Path:
    """Return `path`, or the nearest folder above it that exists."""
    return next(parent for parent in (path, *path.absolute().parents) if parent.exists())


def _is_disk_error(error: OSError) -> bool:
    return error.errno in {*_FULL, *_REFUSED, *_MISPLACED}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    visited: set[int] = set()
    while error is not None and id(error) not in visited:
        visited.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def expand_user(path: str | Path) -> Path:
    """Replace a leading `~` by the home directory.

    Raises:
        UsageError: there is no user of that name.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{path}: there is no home directory of that user; write the path out") from error
