"""Bundled phantom cases, for visitors without an MRI of their own."""

from pathlib import Path

from slicewise.domain.labels import MODALITIES, Modality


def find_cases(folder: Path) -> dict[str, dict[Modality, Path]]:
    """Return {case name: {modality: NIfTI file}} of the cases below `folder`."""
    cases: dict[str, dict[Modality, Path]] = {}
    for case in sorted(path for path in folder.glob("[!.]*") if path.is_dir()):
        for modality in MODALITIES:
            if paths := sorted(case.glob(f"*_{modality}.nii*")):
                cases.setdefault(case.name, {})[modality] = paths[0]
    return cases
