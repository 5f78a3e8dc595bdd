"""Fixtures of the benchmarks: a temporary folder, virtual patients, their slices, the configuration."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from benchmarks.size import Size
from slicewise.config.compose import compose
from slicewise.config.schema import Config
from slicewise.config.schema.sources import PhantomSettings
from slicewise.core.errors import DataError
from slicewise.core.hashing import HashCache
from slicewise.data.cases import CaseFiles
from slicewise.data.phantom.patients import materialise_patients
from slicewise.data.preprocess import preprocess_cases
from slicewise.data.sources.brats import Brats
from slicewise.data.store import SliceStore, StoredCase


class Bench:
    """One run of the benchmarks; its data are made at first use.

    Args:
        folder: for all files.
        size: of the data and the measurements.
        workspace: a finished one, for benchmarks of whole runs; None to make it.
        workspace_overrides: the overrides with which that workspace was made.
    """

    def __init__(
        self,
        folder: Path,
        size: Size,
        workspace: Path | None = None,
        workspace_overrides: tuple[str, ...] = (),
    ) -> None:
        self.folder, self.size = folder, size
        self.workspace, self.workspace_overrides = workspace, workspace_overrides

    @cached_property
    def config(self) -> Config:
        return compose(self.size.overrides)

    @cached_property
    def cases(self) -> tuple[CaseFiles, ...]:
        """Virtual patients as files in the layout of BraTS."""
        root = self.folder / "patients"
        root.mkdir(exist_ok=True)
        materialise_patients(root, range(self.size.patients), seed=0, num_workers=1)
        return tuple(Brats(PhantomSettings(kind="phantom", name="phantom")).discover(root)[0])

    @cached_property
    def slices(self) -> tuple[StoredCase, ...]:
        """The patients' slices in a store."""
        return tuple(self.preprocess(case, self.folder / "slices") for case in self.cases)

    def preprocess(self, case: CaseFiles, root: Path) -> StoredCase:
        """Preprocess one case into a store below `root`, in this process."""
        store = SliceStore(root)
        report = preprocess_cases(
            [case],
            store,
            self.config.preprocessing,
            num_workers=1,
            max_worker_memory_mib=1,
            hash_cache=HashCache(),
        )
        if report.problems:
            raise DataError(f"{case.key} could not be sliced: {report.problems[0].what}")
        return store.open(report.entries[0].entry)


@contextmanager
def temporary_bench(
    size: Size, workspace: Path | None = None, workspace_overrides: tuple[str, ...] = ()
) -> Iterator[Bench]:
    """Yield a bench whose folder is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="slicewise-bench-", ignore_cleanup_errors=True) as name:
        yield Bench(Path(name), size, workspace, workspace_overrides)
