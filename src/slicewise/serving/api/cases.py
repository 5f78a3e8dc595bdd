"""Bundled phantom cases, for visitors without an MRI of their own."""

from pathlib import Path
from typing import Final

from slicewise.core.console import progress
from slicewise.domain.labels import MODALITIES, Modality

FIRST_PATIENT: Final = 10_000
"""Training patients count from 0 and stay far below: no bundled case is in a training set."""


def write_cases(folder: Path, num_cases: int, seed: int) -> tuple[Path, ...]:
    """Generate the bundled cases that `folder` does not hold yet; return all case folders."""
    from slicewise.data.phantom.patient import write_patient

    numbers = range(FIRST_PATIENT, FIRST_PATIENT + num_cases)
    bar = progress(numbers, desc="phantom cases", total=num_cases, unit="case")
    return tuple(write_patient(folder, number, seed) for number in bar)


def find_cases(folder: Path) -> dict[str, dict[Modality, Path]]:
    """Return {case name: {modality: NIfTI file}} of the cases below `folder`."""
    cases: dict[str, dict[Modality, Path]] = {}
    for case in sorted(path for path in folder.glob("[!.]*") if path.is_dir()):
        for modality in MODALITIES:
            if paths := sorted(case.glob(f"*_{modality}.nii*")):
                cases.setdefault(case.name, {})[modality] = paths[0]
    return cases
