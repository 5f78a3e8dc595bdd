"""Generated patients and pictures; their anatomy is in `data.phantom`. Patients are laid out as BraTS."""

import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from slicewise.config.schema import Runtime
from slicewise.config.schema.sources import PhantomPicturesSettings, PhantomSettings
from slicewise.data.sources.brats import Brats
from slicewise.data.sources.class_folders import ClassFolders

_SEED: Final = 0
"""The phantom patients are a data set: a run's seed does not change them."""


class Phantom(Brats):
    """Virtual patients; those that take part in a run are generated."""

    Settings = PhantomSettings
    settings: PhantomSettings

    def known_groups(self) -> Sequence[str]:
        from slicewise.data.phantom.patients import patient_name

        return [patient_name(number) for number in range(1, self.settings.phantom_patients + 1)]

    def fetch(self, root: Path, groups: Collection[str], faulty: Collection[Path], runtime: Runtime) -> None:
        from slicewise.core.parallel import num_processes
        from slicewise.data.phantom.patients import materialise_patients

        for path in faulty:
            shutil.rmtree(path.parent, ignore_errors=True)  # a patient exists whole or not at all
        numbers = sorted(int(name.rpartition("_")[2]) for name in groups)
        workers = num_processes(runtime.num_workers, runtime.max_worker_memory_mib, len(groups))
        materialise_patients(root, numbers, _SEED, workers)


class PhantomPictures(ClassFolders):
    """Virtual pictures in folders named yes and no."""

    Settings = PhantomPicturesSettings
    settings: PhantomPicturesSettings

    def fetch(self, root: Path, groups: Collection[str], faulty: Collection[Path], runtime: Runtime) -> None:
        from slicewise.data.phantom.pictures import materialise_pictures

        for path in faulty:
            path.unlink(missing_ok=True)
        materialise_pictures(root, self.settings.phantom_pictures, _SEED, runtime.num_workers)
