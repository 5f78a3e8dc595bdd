"""What only the report of an external test says: how its cases differ from those of the training."""

from collections.abc import Iterator
from typing import Final

from slicewise.core.files import read_json
from slicewise.domain.report import Block, Table, Text
from slicewise.reporting.run import ResultFolders

_FILE: Final = "differences.json"


def describe_test(folders: ResultFolders) -> str:
    """Return whether the model may have been trained on the tested patients, and what was selected."""
    origin = (
        "The model was trained elsewhere, and on none of these patients, as far as names and images tell."
    )
    path = folders.evaluation / _FILE
    if not path.exists() or not read_json(path).get("patients_known", True):
        origin = (
            "The checkpoint does not remember its training patients: nobody could be compared with them, and "
            "if these are among them, the scores are too good."
        )
    return f"{origin} Calibration, thresholds and post-processing are those that were selected with it."


def differences(folders: ResultFolders) -> Iterator[Block]:
    """Yield how the cases of an external test look beside those of the training."""
    path = folders.evaluation / _FILE
    if not path.exists():
        return
    content = read_json(path)
    training = f"{content['training']}{' (synthetic)' if content['synthetic'] else ''}"
    rows = [
        (
            *(row["kind"], row["what"], row["training"], row["tested"]),
            "–" if row["outside"] is None else f"{row['outside']:.0%}",
            "differs" if row["notable"] else "",
        )
        for row in content["rows"]
    ]
    head = ("", "property", f"training: {training}", "tested", "outside", "")
    yield Table(head, rows, "Median (5th to 95th percentile) over cases, or share")
    yield Text(
        "outside: share of the tested cases that are not between the 5th and 95th percentile of training, "
        "where 10 % are expected; differs: more than half of them, or two shares that differ by 0.2. "
        "Intensities are those after preprocessing.",
        is_note=True,
    )
