"""The phantom cases that come with the demo, for visitors without an MRI of their own."""

from pathlib import Path
from typing import Final

from slicewise.core.console import progress

FIRST_PATIENT: Final = 10_000
"""Training patients count from 0 and stay far below: no bundled case is in a training set."""


def write_cases(folder: Path, num_cases: int, seed: int) -> tuple[Path, ...]:
    """Generate the bundled cases that `folder` does not hold yet; return all case folders."""
    from slicewise.data.phantom.patient import write_patient

    numbers = range(FIRST_PATIENT, FIRST_PATIENT + num_cases)
    bar = progress(numbers, desc="phantom cases", total=num_cases, unit="case")
    return tuple(write_patient(folder, number, seed) for number in bar)
