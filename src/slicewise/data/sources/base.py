"""What a kind of data source does. Other packages add kinds by an entry point, see docs/extending.md:

[project.entry-points."slicewise.sources"]
image_masks = "my_package.sources:ImageMasks"
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from slicewise.config.schema import Runtime, SourceSettings
from slicewise.core.errors import UsageError
from slicewise.data.cases import CaseFiles
from slicewise.data.problems import Problem
from slicewise.data.sources.tree import note_skipped, partition_files

if TYPE_CHECKING:
    from slicewise.imaging.volume import Volume

Discovered = tuple[list[CaseFiles], list[Problem]]
S = TypeVar("S", bound=SourceSettings)


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

        Args:
            root: the folder of the source.
            groups: those of `known_groups` that take part in the run.
            faulty: files that changed since they were indexed.
            runtime: workers and memory.

        Raises:
            UsageError: nothing says where the data is.
            DownloadError: it cannot be downloaded.
        """
        from slicewise.data.download.kaggle import fetch_kaggle

        if self.settings.kaggle is None:
            name = self.settings.name
            raise UsageError(f"data set {name}: neither a path nor a Kaggle name is set; set one of them")
        fetch_kaggle(self.settings.kaggle, root)
