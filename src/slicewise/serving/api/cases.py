"""Bundled phantom cases: something to try the demo on for people without an MRI at hand."""

from pathlib import Path
from typing import Final

from slicewise.core.console import progress
from slicewise.domain.labels import MODALITIES, Modality

FIRST_PATIENT: Final = 10_000
"""Training patients count from 0 and stay far below: a bundled case was never trained on."""


def write_cases(folder: Path, num_cases: int, seed: int) -> tuple[Path, ...]:
    """Generate the bundled cases that `folder` does not hold yet; return all case folders."""
    from slicewise.data.phantom.patient import write_patient

    numbers = range(FIRST_PATIENT, FIRST_PATIENT + num_cases)
    bar = progress(numbers, desc="phantom cases", total=num_cases, unit="case")
    return tuple(write_patient(folder, number, seed) for number in bar)


def find_cases(folder: Path) -> dict[str, dict[Modality, Path]]:
    """Return the NIfTI file of each modality of each case below `folder`, by case name."""
    folders = sorted(path for path in folder.glob("[!.]*") if path.is_dir())
    cases = {path.name: _find_modalities(path) for path in folders}
    return {name: files for name, files in cases.items() if files}


def _find_modalities(folder: Path) -> dict[Modality, Path]:
    found = {modality: next(iter(sorted(folder.glob(f"*_{modality}.nii*"))), None) for modality in MODALITIES}
    return {modality: path for modality, path in found.items() if path is not None}
