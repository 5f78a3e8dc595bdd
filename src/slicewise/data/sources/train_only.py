"""Folders of pictures for training only: a picture that resembles one of another folder is left out."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slicewise.core.errors import DataError
from slicewise.data.cases import CaseFiles
from slicewise.data.problems import Problem

if TYPE_CHECKING:
    from slicewise.data.duplicates.perceptual import PictureHash

_OUTSIDE: Final = "a picture outside of data.sources.pictures.train_only, which is kept"
_RESEMBLES: Final = f"almost the same as {_OUTSIDE}"
_CONTRADICTS: Final = f"pixel for pixel the same as, and labelled otherwise than, {_OUTSIDE}"


@dataclass(frozen=True)
class TrainOnly:
    """The folders `names` directly below `root`."""

    root: Path
    names: Collection[str]

    def holds(self, path: Path) -> bool:
        """Whether a picture lies in one of them."""
        return self._folder(path) in self.names

    def without_contradicting(
        self, pictures: "Sequence[tuple[CaseFiles, PictureHash]]"
    ) -> "tuple[list[tuple[CaseFiles, PictureHash]], list[Problem]]":
        """Return the pictures without those that repeat one of another folder with the other label."""
        labels: dict[str, set[int | None]] = defaultdict(set)
        for case, picture in pictures:
            if not self.holds(case.images[0]):
                labels[picture.digest].add(case.label)
        remaining: list[tuple[CaseFiles, PictureHash]] = []
        problems: list[Problem] = []
        for case, picture in pictures:
            # Where those of other folders contradict each other, none of them is kept later.
            others = labels[picture.digest]
            if self.holds(case.images[0]) and len(others) == 1 and case.label not in others:
                problems.append(Problem(case.images[0], _CONTRADICTS, "note"))
            else:
                remaining.append((case, picture))
        return remaining, problems

    def without_resembling(self, cases: Sequence[CaseFiles]) -> tuple[list[CaseFiles], list[Problem]]:
        """Return the pictures without those in one group with a picture of another folder."""
        remaining: list[CaseFiles] = []
        problems: list[Problem] = []
        tested = {case.group for case in cases if not self.holds(case.images[0])}
        for case in cases:
            if case.group in tested and self.holds(case.images[0]):
                problems.append(Problem(case.images[0], _RESEMBLES, "note"))
            else:
                remaining.append(case)
        return remaining, problems

    def require_pictures(self, cases: Iterable[CaseFiles]) -> None:
        """Check that each of the folders, and at least one other, holds a picture.

        Raises:
            DataError: one of them holds none, or no other folder does.
        """
        present = {self._folder(case.images[0]) for case in cases}
        if missing := sorted(set(self.names) - present):
            raise DataError(
                f"data.sources.pictures.train_only names {', '.join(missing)}, but no picture to train on "
                f"lies in such a folder directly below {self.root}; there are: {', '.join(sorted(present))}"
            )
        if self.names and present <= set(self.names):
            raise DataError(
                f"data.sources.pictures.train_only names every folder below {self.root}: no picture is left "
                "for test; take one out"
            )

    def _folder(self, path: Path) -> str:
        return path.relative_to(self.root).parts[0]
