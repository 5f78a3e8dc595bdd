"""From received files to a Volume, by the same readers as for training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slicewise.core.keys import CaseKey
from slicewise.core.labels import MODALITIES, Modality
from slicewise.data.cases import CaseFiles, CaseKind
from slicewise.data.check import require_sound
from slicewise.data.names import patient_of, read_name, shows_mask
from slicewise.data.reading import read_case
from slicewise.data.sources import lgg
from slicewise.evaluation.operating import InputKind
from slicewise.imaging.volume import Volume
from slicewise.serving.uploads import RequestError, Stored, reworded

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
    named = {_modality(name, file): file for name, file in files.items()}
    volumes = {known: named[known] for known in MODALITIES if known in named}
    case = _case("nifti", volumes)
    notes = tuple(reworded(str(problem), volumes) for problem in require_sound(case))
    received = read_case(case)
    remarks = (reworded(remark, volumes) for remark in received.remarks)
    said_by_names = (*_several_patients(volumes), *_contradictions(volumes))
    return Received(received, "volume", (*said_by_names, *notes, *remarks))


def _modality(field: str, file: Stored) -> Modality:
    """Return what a volume shows: as its form field says, or else as its name does.

    Raises:
        RequestError: 400 where neither says it.
    """
    said = next((known for known in MODALITIES if known == field), None)
    if said is not None:
        return said
    name = read_name(Path(file.name))
    shown = next((known for known in MODALITIES if known == name.kind), None)
    if shown is not None and name.sure:
        return shown
    several = f" (its name may say {' or '.join(name.candidates)})" if name.candidates else ""
    what = "is a mask by its name" if name.kind == "mask" else f"is a volume{several}"
    raise RequestError(
        400,
        f"{file.name} {what}: say what it shows in the form field `modality`, one of {', '.join(MODALITIES)}",
    )


def _several_patients(volumes: Mapping[Modality, Stored]) -> tuple[str, ...]:
    """Say where the files are those of different patients, by the names that say a modality."""
    names = [read_name(Path(file.name)) for file in volumes.values()]
    patients = {patient_of(name.case) for name in names if name.kind is not None and name.sure and name.case}
    if len({patient.lower() for patient in patients}) < 2:
        return ()
    listed = ", ".join(sorted(patients))
    return (
        f"the file names belong to different patients ({listed}); send the volumes of one examination, or "
        "rename the files if they are of one",
    )


def _contradictions(volumes: Mapping[Modality, Stored]) -> tuple[str, ...]:
    """Say where a file's name speaks of something else than its form field."""
    names = {modality: read_name(Path(file.name)) for modality, file in volumes.items()}
    return tuple(
        f"{volumes[modality].name}: sent as {modality}, though its name says {name.kind}"
        for modality, name in names.items()
        if name.kind not in (None, modality) and name.sure
    )


def _read_flat(name: str, file: Stored, slot: Modality) -> Received:
    """Read a picture; the colours of one that is called as the slices of kaggle_3m are three sequences."""
    said = next((known for known in MODALITIES if known == name), None)
    if said is None and lgg.is_slice_name(file.name):
        return Received(read_case(_case("lgg", dict.fromkeys(lgg.CHANNELS, file))), "volume")
    if said is None and shows_mask(Path(file.name).stem):
        raise RequestError(
            400,
            f"{file.name} is a mask, or a picture made from one, by its name: send the image, or say in the "
            "form field `modality` what it shows",
        )
    picture = read_case(_case("picture", {said or slot: file}))
    return Received(picture, "picture", picture.remarks)


def _case(kind: CaseKind, files: Mapping[Modality, Stored]) -> CaseFiles:
    paths = tuple(dict.fromkeys(file.path for file in files.values()))
    return CaseFiles(_KEY, kind, tuple(files), paths, (), None, _KEY.patient)
