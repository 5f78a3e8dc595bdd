"""Check that a reader writes, moves and removes files only in its own folder (PEP 578 audit hook)."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES: Final = frozenset(
    (
        "os.rename",
        "os.remove",
        "os.mkdir",
        "os.rmdir",
        "os.symlink",
        "os.link",
        "os.truncate",
        "shutil.rmtree",
    )
)
_STARTS: Final = frozenset(
    ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "pickle.find_class")
)
CANARY: Final = "canary"
"""A file beside the folder that no reader may open."""


class EscapeError(AssertionError):
    """A reader used a file outside its folder."""


class _Watch:
    def __init__(self) -> None:
        self.folder: Path | None = None
        self.violations: list[str] = []
        self.installed = False

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folder is None:
            return
        if event == "open":
            self._opened(args[0], args[2])
        elif event in _CHANGES:
            self._changed(event, args)
        elif event in _STARTS and event != "pickle.find_class":
            self.violations.append(f"{event} {args[0]!r}")

    def _opened(self, path: Any, flags: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        name = os.path.realpath(os.fsdecode(path)) if b"\0" not in os.fsencode(path) else ""
        if Path(name).name == CANARY or (isinstance(flags, int) and flags & _WRITING and self._outside(name)):
            self.violations.append(f"open {name}")

    def _changed(self, event: str, args: tuple[Any, ...]) -> None:
        if any(isinstance(arg, int) and arg >= 0 for arg in args[1:]) and event in ("os.remove", "os.rmdir"):
            return  # relative to an open folder: part of a removal that was checked as a whole
        names = args[:2] if event in ("os.rename", "os.link") else args[:1]
        for name in names:
            path = os.path.normpath(Path.cwd() / os.fsdecode(name))
            if self._outside(path):
                self.violations.append(f"{event} {path}")

    def _outside(self, name: str) -> bool:
        assert self.folder is not None
        harmless = name.startswith("/dev/") or "__pycache__" in name or not name
        return not harmless and not Path(name).is_relative_to(self.folder)


_WATCH: Final = _Watch()


@contextmanager
def confined(folder: Path) -> Iterator[None]:
    """Allow the block to change files below `folder` only.

    Raises:
        EscapeError: it changed a file elsewhere, opened the canary or started a process.
    """
    if not _WATCH.installed:
        sys.addaudithook(_WATCH.hook)  # cannot be removed; without a folder it does nothing
        _WATCH.installed = True
    before = tempfile.tempdir
    _WATCH.violations = []
    tempfile.tempdir = str(folder)
    _WATCH.folder = folder.resolve()
    try:
        yield
    finally:
        _WATCH.folder, tempfile.tempdir = None, before
    if _WATCH.violations:
        raise EscapeError("; ".join(_WATCH.violations[:3]))
