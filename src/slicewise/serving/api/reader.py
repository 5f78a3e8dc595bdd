"""Read received files to a `Volume`, by the same readers as for training."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from slicewise.data.case_reader import read_case
from slicewise.data.cases import CaseFiles, CaseKind
from slicewise.data.check import require_readable
from slicewise.data.filenames import ParsedName, is_mask_name, parse_filename, parse_patient
from slicewise.data.sources import lgg
from slicewise.domain.keys import CaseKey
from slicewise.domain.labels import MODALITIES, Modality
from slicewise.imaging.volume import Volume
from slicewise.inference.operating_points import InputKind
from slicewise.serving.api.errors import RequestError
from slicewise.serving.api.uploads import StoredUpload, restore_client_names

_KEY: Final = CaseKey("upload", "upload", "upload")


@dataclass(frozen=True)
class RequestInput:
    """The input of one request.

    Attributes:
        volume: a picture, or a slice of kaggle_3m, has a single slice and no orientation.
        kind: selects the operating point: a slice of kaggle_3m is part of a volume.
        notes: warnings about the files.
    """

    volume: Volume
    kind: InputKind
    notes: tuple[str, ...] = ()


def read_uploads(files: Mapping[str, StoredUpload], slot: Modality) -> RequestInput:
    """Read the files of one request.

    Args:
        files: by modality; or one file under UNNAMED.
        slot: the modality slot of a picture that came without a modality.

    Raises:
        RequestError: 400 if pictures and volumes are mixed, or the modality of a volume is unknown.
        DataError: a file is damaged, or the volumes do not match.
    """
    kinds = {file.kind for file in files.values()}
    if kinds == {"picture"} and len(files) == 1:
        ((name, file),) = files.items()
        return _read_picture(name, file, slot)
    if kinds != {"volume"}:
        raise RequestError(400, "send one picture, or the NIfTI volumes of one examination, not both")
    by_modality = {_modality(name, file): file for name, file in files.items()}
    volumes = {modality: by_modality[modality] for modality in MODALITIES if modality in by_modality}
    names = {modality: parse_filename(Path(file.name)) for modality, file in volumes.items()}
    conflicts = tuple(
        f"{volumes[modality].name}: sent as {modality}, though its name says {name.kind}"
        for modality, name in names.items()
        if name.kind not in (None, modality) and name.sure
    )
    case = _case("nifti", volumes)
    notes = tuple(restore_client_names(str(problem), volumes) for problem in require_readable(case))
    volume = read_case(case)
    remarks = (restore_client_names(remark, volumes) for remark in volume.remarks)
    patients = _find_several_patients(names.values())
    return RequestInput(volume, "volume", (*patients, *conflicts, *notes, *remarks))


def _find_several_patients(names: Collection[ParsedName]) -> tuple[str, ...]:
    """Return a warning if the names of the files belong to different patients."""
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


def _modality(field: str, file: StoredUpload) -> Modality:
    """Return the modality of a volume by its form field, or else by its name.

    Raises:
        RequestError: 400 if neither names it.
    """
    name = parse_filename(Path(file.name))
    modality = _as_modality(field) or (_as_modality(name.kind) if name.sure else None)
    if modality is not None:
        return modality
    candidates_text = f" (its name may say {' or '.join(name.candidates)})" if name.candidates else ""
    description = "is a mask by its name" if name.kind == "mask" else f"is a volume{candidates_text}"
    raise RequestError(
        400,
        f"{file.name} {description}: set the form field `modality` to one of {', '.join(MODALITIES)}",
    )


def _read_picture(name: str, file: StoredUpload, slot: Modality) -> RequestInput:
    """Read a picture; one that is named like a slice of kaggle_3m holds three modalities as colours."""
    given = _as_modality(name)
    if given is None and lgg.is_slice_name(file.name):
        return RequestInput(read_case(_case("lgg", dict.fromkeys(lgg.CHANNELS, file))), "volume")
    if given is None and is_mask_name(Path(file.name).stem):
        raise RequestError(
            400,
            f"{file.name} is a mask, or a picture made from one, by its name: send the image, or set the "
            "form field `modality`",
        )
    picture = read_case(_case("picture", {given or slot: file}))
    return RequestInput(picture, "picture", picture.remarks)


def _as_modality(name: str | None) -> Modality | None:
    return next((modality for modality in MODALITIES if modality == name), None)


def _case(kind: CaseKind, files: Mapping[Modality, StoredUpload]) -> CaseFiles:
    paths = tuple(dict.fromkeys(file.path for file in files.values()))
    return CaseFiles(_KEY, kind, tuple(files), paths, (), None, _KEY.patient)
