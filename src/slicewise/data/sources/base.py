"""What a kind of data source does, and the files below its folder, in an order that is the same everywhere.

Other packages add kinds by an entry point, see docs/howto/extend.md:

[project.entry-points."slicewise.sources"]
mask_pairs = "my_package.sources:MaskPairs"
"""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Generic, NoReturn, TypeVar

from slicewise.config.schema import Runtime, SourceSettings
from slicewise.core.errors import DataError, UsageError
from slicewise.data.cases import CaseFiles
from slicewise.data.problems import Problem
from slicewise.imaging.io.file_format import explain_skipped

if TYPE_CHECKING:
    from slicewise.imaging.volume import Volume

Discovered = tuple[list[CaseFiles], list[Problem]]
S = TypeVar("S", bound=SourceSettings)
_PARTS: Final = re.compile(r"\d+|\D+")
_NOT_DATA: Final = ("__MACOSX", "lost+found", "System Volume Information", "$RECYCLE.BIN")
"""Added by operating systems to archives and disks; often unreadable."""


class Source(ABC, Generic[S]):
    """A data set: which of its files are read, which cases they are, and how a case becomes a volume.

    `check` and `read` need no settings: a case names its kind, and that kind reads it, also in `predict` and
    the API.
    """

    Settings: ClassVar[type[SourceSettings]]
    """The keys of `data.sources.KEY` of this kind, and what it offers: `unit` and `has_masks`."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Endings of the files that are read, in lower case."""

    def __init__(self, settings: S) -> None:
        self.settings = settings

    @classmethod
    def reads(cls, path: Path) -> bool:
        """Whether the file at `path` is data of this kind."""
        return path.name.lower().endswith(cls.suffixes)

    @abstractmethod
    def discover(self, root: Path) -> Discovered:
        """Return the cases below `root`, in natural order, and the problems of files and folders.

        Raises:
            DataError: there is no folder, or no case in it.
        """

    @classmethod
    def check(cls, case: CaseFiles) -> list[Problem]:
        """Return the problems of a case by its headers, before any work; "error" makes it unusable."""
        return []

    @classmethod
    @abstractmethod
    def read(cls, case: CaseFiles) -> "Volume":
        """Return the volume of a case; a picture is a volume of one slice.

        Raises:
            DataError: a file is damaged, or the files do not fit together.
        """

    @classmethod
    def num_slices(cls, case: CaseFiles) -> int:
        """Return about how many slices a case has, to estimate work and disk space."""
        return len(case.images)

    def read_files(self, root: Path) -> list[Path]:
        """Return the files that `discover` reads; they identify the data of a run."""
        return partition_files(root, self.reads)[0]

    def skipped_files(self, root: Path) -> list[Problem]:
        """Return a note for each file below `root` that is not read."""
        return note_skipped(partition_files(root, self.reads)[1])

    def known_groups(self) -> Sequence[str]:
        """Return the patients that can be generated one by one; none where all of the data is fetched."""
        return ()

    def fetch(self, root: Path, groups: Collection[str], faulty: Collection[Path], runtime: Runtime) -> None:
        """Download or generate what is missing below `root`.

        `groups` are those of `known_groups` that take part in the run, and `faulty` the files that changed
        since they were indexed.

        Raises:
            UsageError: nothing says where the data is.
            DownloadError: it cannot be downloaded.
        """
        from slicewise.data.download.kaggle import fetch_kaggle

        if self.settings.kaggle is None:
            name = self.settings.name
            raise UsageError(f"data set {name}: neither a path nor a Kaggle name is set; set one of them")
        fetch_kaggle(self.settings.kaggle, root)


def natural_key(text: str) -> tuple[tuple[bool, int, str], ...]:
    """Return a key that sorts `x_9` before `x_10`, whatever the letter case."""
    return tuple(map(_natural_part, _PARTS.findall(text)))


@lru_cache(maxsize=1 << 16)
def _natural_part(part: str) -> tuple[bool, int, str]:
    return not part.isdecimal(), int(part) if part.isdecimal() else 0, part.lower()


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
    for path in map(Path, _walk(root)):
        (read if is_read(path) else others).append(path)
    for path in read:
        if not str(path).isascii():
            _require_utf8(path)
    return read, others


def _require_utf8(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{str(path)!r} is not UTF-8; rename it (`convmv -f latin1 -t utf8 --notest -r FOLDER` "
            "converts the names of an older system), or move it out of the data set"
        ) from error


def note_skipped(others: Collection[Path]) -> list[Problem]:
    """Return a note for each file that is not read: why, and what to do if it should be."""
    printable = (Path(os.fsencode(path).decode(errors="replace")) for path in others)
    return [
        Problem(shown, explain_skipped(path), "note") for shown, path in zip(printable, others, strict=True)
    ]


def _walk(root: Path) -> list[str]:
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; set the `path` of the source to one that is")
    paths: list[str] = []
    top = str(root)
    _add_files(top, os.path.realpath(top), set(), paths)
    begin = len(os.path.join(top, ""))  # noqa: PTH118  # all paths begin alike
    return sorted(paths, key=lambda path: (natural_key(path[begin:]), path))


def _add_files(folder: str, real: str, visited: set[str], paths: list[str]) -> None:
    """Add the files below a folder, whose path without links is `real`, to `paths`."""
    visited.add(real)
    folders: list[tuple[str, str]] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _is_hidden(entry.name):
                    continue
                if not entry.is_dir():
                    paths.append(entry.path)
                elif entry.is_symlink():
                    folders.append((entry.path, os.path.realpath(entry.path)))
                else:
                    folders.append((entry.path, f"{real}/{entry.name}"))
    except OSError as error:
        _refuse(error)
    for below, target in sorted(folders):
        if target not in visited:
            _add_files(below, target, visited, paths)


def _refuse(error: OSError) -> NoReturn:
    """Raise for a folder that cannot be read: its patients would be missing without notice."""
    raise DataError(
        f"{error.filename} cannot be read ({error.strerror}); let the user of this run read it "
        "(`chmod -R a+rX FOLDER`), or move it out of the data set"
    ) from error


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _NOT_DATA
