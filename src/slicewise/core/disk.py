"""Errors of a full or read-only disk, of permissions and of misplaced paths; free space."""

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
    errno.EXDEV: "it is on another disk than .slicewise, from where outputs are moved by a rename",
}
_MISPLACED: Final = {
    errno.ENOTDIR: "a file lies where a folder would have to be",
    errno.EISDIR: "a folder lies where a file would have to be",
    errno.ENAMETOOLONG: "the name is too long for its disk",
    errno.EEXIST: "it is a link to what does not exist",
}


def set_filename(error: BaseException, path: Path) -> None:
    """Set the file name in the OSErrors behind `error` that have none: those of a write."""
    for link in _chain(error):
        if isinstance(link, OSError) and link.errno is not None and link.filename is None:
            link.filename = str(path)


def find_disk_error(error: BaseException) -> OSError | None:
    """Return the OSError behind `error` that is about the disk or a path, if there is one."""
    errors = (link for link in _chain(error) if isinstance(link, OSError))
    return next(filter(_is_about_the_disk, errors), None)


def _is_about_the_disk(error: OSError) -> bool:
    if error.errno == errno.EEXIST:  # `mkdir` accepts a folder that exists
        return isinstance(error.filename, str) and not Path(error.filename).exists()
    return error.errno in {*_FULL, *_REFUSED, *_MISPLACED}


def is_disk_full(error: OSError) -> bool:
    """Whether space, inodes or quota are used up."""
    return error.errno in _FULL


def describe_disk_error(error: OSError) -> str:
    """Return the reason in words, without a path."""
    words = {**_FULL, **_REFUSED, **_MISPLACED, errno.ENOENT: "the folder does not exist"}
    return words.get(error.errno or 0) or (error.strerror or str(error)).lower()


def explain_disk_error(
    error: BaseException, folder: Path, needed_bytes: int = 0, option: str = "--workspace"
) -> WorkspaceError | None:
    """Return the error to show for a full or closed disk; None where `error` is about something else.

    Args:
        error: what was raised; libraries hide the cause behind exceptions of their own.
        folder: used where the error names no file.
        needed_bytes: estimated space for the work in all; 0 if unknown.
        option: the command-line option that names `folder`; an error elsewhere does not mention it.
    """
    cause = find_disk_error(error)
    if cause is None:
        return None
    assert cause.errno is not None
    path = Path(os.fsdecode(cause.filename)) if isinstance(cause.filename, str | bytes) else folder
    output, found = folder.absolute(), path.absolute()
    is_output = output in (found, *found.parents) or found in output.parents
    elsewhere = f"or choose another folder{f' with {option}' if is_output else ''}"
    if cause.errno in _MISPLACED:
        advice = "shorten it" if cause.errno == errno.ENAMETOOLONG else "move it away"
        what = f"{path} cannot be written: {_MISPLACED[cause.errno]}; {advice}, {elsewhere}"
    elif cause.errno in _REFUSED:
        target = f" -> {os.fsdecode(cause.filename2)}" if cause.filename2 else ""
        what = f"{path}{target}: {_REFUSED[cause.errno]}; change its permissions, {elsewhere}"
    else:
        need = f", about {needed_bytes / MIB:,.0f} MiB were needed in all" if needed_bytes else ""
        what = (
            f"{path} cannot be written: {_FULL[cause.errno]} ({describe_free_space(path)}{need}); free some "
            f"space (`slicewise clean` deletes superseded outputs) {elsewhere}"
        )
    return WorkspaceError(f"{what}, then run the same command again; what was finished is kept")


def describe_free_space(path: Path) -> str:
    """Return how much is free on the disk of `path`, in words; `path` need not exist."""
    try:
        existing = existing_parent(path)
        usage, files = shutil.disk_usage(existing), os.statvfs(existing)
    except OSError:
        return "free space unknown"
    no_files = ", but no further file (inode)" if files.f_files and not files.f_favail else ""
    return f"{usage.free / MIB:,.1f} MiB free of {usage.total / MIB:,.0f}{no_files}"


def require_space(folder: Path, needed_bytes: int, what: str) -> None:
    """Raise WorkspaceError when the disk of `folder` has less than `needed_bytes` free."""
    existing = existing_parent(folder)
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise WorkspaceError(
            f"{what} needs about {needed_bytes / MIB:,.0f} MiB and {existing} has {free / MIB:,.0f} free; "
            "free some space (`slicewise clean` deletes superseded outputs) or move the workspace with "
            "--workspace, then run the same command again"
        )


def existing_parent(path: Path) -> Path:
    """Return `path`, or the nearest folder above it that exists."""
    return next(parent for parent in (path, *path.absolute().parents) if parent.exists())


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    visited: set[int] = set()
    while error is not None and id(error) not in visited:
        visited.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def expand_user(path: str | Path) -> Path:
    """Replace a leading `~` by the home directory.

    Raises:
        UsageError: no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise UsageError(f"{path}: there is no home directory of that user; write the full path") from error
