"""From received files to a Volume, by the same readers as for training."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slicewise.data.case_reader import read_case
from slicewise.data.cases import CaseFiles, CaseKind
from slicewise.data.check import require_readable
from slicewise.data.filenames import is_mask_name, parse_filename, parse_patient
from slicewise.data.sources import lgg
from slicewise.domain.keys import CaseKey
from slicewise.domain.labels import MODALITIES, Modality
from slicewise.imaging.volume import Volume
from slicewise.inference.operating_points import InputKind
from slicewise.serving.api.uploads import RequestError, StoredUpload, restore_client_names

_KEY: Final = CaseKey("upload", "upload", "upload")


@dataclass(frozen=True)
class RequestInput:
    """What one request holds.

    Attributes:
        volume: a picture, and a slice of kaggle_3m, is one of a single slice without an orientation.
        kind: whose choices decide: a slice of kaggle_3m is a part of a volume.
        notes: what is odd about the files, for people.
    """

    volume: Volume
    kind: InputKind
    notes: tuple[str, ...] = ()


def read_uploads(files: Mapping[str, StoredUpload], slot: Modality) -> RequestInput:
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
        return _read_picture(name, file, slot)
    if kinds != {"volume"}:
        raise RequestError(400, "send one picture, or the NIfTI volumes of one examination, not both")
    by_modality = {_modality(name, file): file for name, file in files.items()}
    volumes = {known: by_modality[known] for known in MODALITIES if known in by_modality}
    case = _case("nifti", volumes)
    notes = tuple(restore_client_names(str(problem), volumes) for problem in require_readable(case))
    volume = read_case(case)
    remarks = (restore_client_names(remark, volumes) for remark in volume.remarks)
    said_by_names = (*_several_patients(volumes), *_name_conflicts(volumes))
    return RequestInput(volume, "volume", (*said_by_names, *notes, *remarks))


def _modality(field: str, file: StoredUpload) -> Modality:
    """Return what a volume shows: as its form field says, or else as its name does.

    Raises:
        RequestError: 400 where neither says it.
    """
    given = next((known for known in MODALITIES if known == field), None)
    if given is not None:
        return given
    name = parse_filename(Path(file.name))
    guess = next((known for known in MODALITIES if known == name.kind), None)
    if guess is not None and name.sure:
        return guess
    candidates_text = f" (its name may say {' or '.join(name.candidates)})" if name.candidates else ""
    description = "is a mask by its name" if name.kind == "mask" else f"is a volume{candidates_text}"
    raise RequestError(
        400,
        f"{file.name} {description}: say what it shows in the form field `modality`, "
        f"one of {', '.join(MODALITIES)}",
    )


def _several_patients(volumes: Mapping[Modality, StoredUpload]) -> tuple[str, ...]:
    """Say where the files are those of different patients, by the names that say a modality."""
    names = [parse_filename(Path(file.name)) for file in volumes.values()]
    patients = {
        parse_patient(name.case) for name in names if name.kind is not None and name.sure and name.case
    }
    if len({patient.lower() for patient in patients}) < 2:
        return ()
    listed = ", ".join(sorted(patients))
    return (
        f"the file names belong to different patients ({listed}); send the volumes of one examination, or "
        "rename the files if they are of one",
    )


def _name_conflicts(volumes: Mapping[Modality, StoredUpload]) -> tuple[str, ...]:
    """Say where a file's name speaks of something else than its form field."""
    names = {modality: parse_filename(Path(file.name)) for modality, file in volumes.items()}
    return tuple(
        f"{volumes[modality].name}: sent as {modality}, though its name says {name.kind}"
        for modality, name in names.items()
        if name.kind not in (None, modality) and name.sure
    )


def _read_picture(name: str, file: StoredUpload, slot: Modality) -> RequestInput:
    """Read a picture; the colours of one that is called as the slices of kaggle_3m are three sequences."""
    given = next((known for known in MODALITIES if known == name), None)
    if given is None and lgg.is_slice_name(file.name):
        return RequestInput(read_case(_case("lgg", dict.fromkeys(lgg.CHANNELS, file))), "volume")
    if given is None and is_mask_name(Path(file.name).stem):
        raise RequestError(
            400,
            f"{file.name} is a mask, or a picture made from one, by its name: send the image, or say in the "
            "form field `modality` what it shows",
        )
    picture = read_case(_case("picture", {given or slot: file}))
    return RequestInput(picture, "picture", picture.remarks)


def _case(kind: CaseKind, files: Mapping[Modality, StoredUpload]) -> CaseFiles:
    paths = tuple(dict.fromkeys(file.path for file in files.values()))
    return CaseFiles(_KEY, kind, tuple(files), paths, (), None, _KEY.patient)
