"""From received files to a Volume, by the same readers as for training."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from slicewise.core.keys import CaseKey
from slicewise.core.labels import MODALITIES, Modality
from slicewise.data.cases import CaseFiles, CaseKind
from slicewise.data.check import check_case
from slicewise.data.reading import read_case
from slicewise.data.sources import lgg
from slicewise.evaluation.operating import InputKind
from slicewise.imaging.volume import Volume
from slicewise.serving.uploads import UNNAMED, RequestError, Stored, reworded

_KEY: Final = CaseKey("upload", "upload", "upload")


@dataclass(frozen=True)
class Received:
    """What one request holds.

    Attributes:
        volume: a picture, and a slice of kaggle_3m, is one of a single slice without an orientation.
        kind: whose choices decide: a slice of kaggle_3m is a part of a volume.
        notes: what is odd about the files, for people.
    """

    volume: Volume
    kind: InputKind
    notes: tuple[str, ...] = ()


def read_files(files: Mapping[str, Stored], slot: Modality) -> Received:
    """Read the files of one request.

    Args:
        files: by modality; or one file under UNNAMED.
        slot: the modality slot that a picture fills when its modality was not said.

    Raises:
        RequestError: 400 when pictures and volumes are mixed, or a volume's modality was not said.
        DataError: a file is damaged, or the volumes do not match.
    """
    kinds = {file.kind for file in files.values()}
    if kinds == {"picture"} and len(files) == 1:
        ((name, file),) = files.items()
        return _read_flat(name, file, slot)
    if kinds != {"volume"}:
        raise RequestError(400, "send one picture, or the NIfTI volumes of one examination, not both")
    if UNNAMED in files:
        raise RequestError(
            400,
            f"{files[UNNAMED].name} is a volume: say what it shows in the form field `modality`, "
            f"one of {', '.join(MODALITIES)}",
        )
    volumes = {known: files[known] for known in MODALITIES if known in files}
    case = _case("nifti", volumes)
    received, names = read_case(case), {file.path: file.name for file in volumes.values()}
    notes = tuple(f"{names[problem.path]}: {problem.what}" for problem in check_case(case))
    return Received(received, "volume", (*notes, *(reworded(note, files) for note in received.notes)))


def _read_flat(name: str, file: Stored, slot: Modality) -> Received:
    """Read a picture; the colours of one that is called as the slices of kaggle_3m are three sequences."""
    said = next((known for known in MODALITIES if known == name), None)
    if said is None and lgg.is_slice_name(file.name):
        return Received(read_case(_case("lgg", dict.fromkeys(lgg.CHANNELS, file))), "volume")
    picture = read_case(_case("picture", {said or slot: file}))
    return Received(picture, "picture", picture.notes)


def _case(kind: CaseKind, files: Mapping[Modality, Stored]) -> CaseFiles:
    paths = tuple(dict.fromkeys(file.path for file in files.values()))
    return CaseFiles(_KEY, kind, tuple(files), paths, (), None, _KEY.patient)
