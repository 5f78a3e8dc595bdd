"""From stored uploads to a `Volume`, by the readers of training and of `predict`."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

from slicewise.data.cases import CaseFiles, require_readable
from slicewise.data.dicom_cases import DicomCase
from slicewise.data.filenames import ParsedName, is_mask_name, parse_patient
from slicewise.data.sources import lgg
from slicewise.imaging.io.image2d import open_picture
from slicewise.imaging.io.nifti_header import open_nifti
from slicewise.imaging.volume import Volume
from slicewise.inference.operating_points import InputKind
from slicewise.serving.api.problems import RequestError
from slicewise.serving.api.uploads import UNNAMED, StoredUpload, client_names

MEGA: Final = 1_000_000


@dataclass(frozen=True)
class RequestInput:
    """The input of one request.

    Attributes:
        volume: a picture, or a slice of kaggle_3m, has a single slice and no orientation.
        kind: selects the operating point: a slice of kaggle_3m is part of a volume.
        notes: what is to be said about the files.
        remarks: those of them that are no warnings.
        is_stack: whether it is a stack of pictures, which may be a single one.
        dicom: the DICOM series of the images.
    """

    volume: Volume
    kind: InputKind
    notes: tuple[str, ...] = ()
    is_stack: bool = False
    dicom: DicomCase | None = None
    remarks: tuple[str, ...] = ()

    @property
    def is_picture(self) -> bool:
        """Whether the result is shown as one picture and not as a volume."""
        return self.volume.orientation is None and self.volume.shape[0] == 1 and not self.is_stack


@dataclass(frozen=True)
class InputReader:
    """Reads the files of one request, by modality or one under UNNAMED, for a model with these channels.

    A picture without a modality fills the channel `slot`.
    """

    channels: Sequence[str]
    slot: str
    max_megapixels: float

    def read(self, files: Mapping[str, StoredUpload]) -> RequestInput:
        """Return what the files of one case hold.

        Raises:
            RequestError: 400 if pictures and volumes are mixed, or the modality of a volume is unknown; 413
                for too many pixels.
            DataError: a file is damaged, or the volumes do not match.
        """
        kinds = {file.kind for file in files.values()}
        if kinds == {"picture"} and len(files) == 1:
            ((name, file),) = files.items()
            return self._read_picture(None if name == UNNAMED else name, file)
        if kinds != {"volume"}:
            raise RequestError(400, "send one picture, or the NIfTI volumes of one examination, not both")
        by_modality = {self._modality(name, file): file for name, file in files.items()}
        return self._read_volumes({name: by_modality[name] for name in self.channels if name in by_modality})

    def _read_volumes(self, volumes: Mapping[str, StoredUpload]) -> RequestInput:
        names = {modality: file.parsed for modality, file in volumes.items()}
        conflicts = tuple(
            f"{volumes[modality].name}: sent as {modality}, though its name says {name.kind}"
            for modality, name in names.items()
            if name.kind not in (None, modality) and name.sure
        )
        case = _case("brats", volumes)
        problems = require_readable(case)
        self.require_size(volumes.values())
        volume = case.read()
        warnings = (client_names(str(text), volumes.values()) for text in (*problems, *volume.remarks))
        return RequestInput(
            volume, "volume", (*_find_several_patients(names.values()), *conflicts, *warnings)
        )

    def _modality(self, field: str, file: StoredUpload) -> str:
        """Return the modality of a volume by its form field, or else by its name.

        Raises:
            RequestError: 400 if neither names it.
        """
        name = file.parsed
        if field in self.channels:
            return field
        if name.sure and name.kind is not None and name.kind in self.channels:
            return name.kind
        candidates = f" (its name may say {' or '.join(name.candidates)})" if name.candidates else ""
        what = "is a mask by its name" if name.kind == "mask" else f"is a volume{candidates}"
        message = f"{file.name} {what}: set the form field `modality` to one of {', '.join(self.channels)}"
        raise RequestError(400, message, faults={"modality": "needed for this file"})

    def _read_picture(self, given: str | None, file: StoredUpload) -> RequestInput:
        """Read a picture; one that is named like a slice of kaggle_3m holds three modalities as colours."""
        self.require_size([file])
        if given is None and lgg.is_slice_name(file.name):
            return RequestInput(_case("lgg", dict.fromkeys(lgg.CHANNELS, file)).read(), "volume")
        if given is None and is_mask_name(Path(file.name).stem):
            raise RequestError(
                400,
                f"{file.name} is a mask, or a picture made from one, by its name: send the image, or set the "
                "form field `modality`",
            )
        picture = _case("class_folders", {given or self.slot: file}).read()
        return RequestInput(picture, "picture", picture.remarks)

    def require_size(self, files: Collection[StoredUpload]) -> None:
        """Refuse files of more pixels than are accepted, by their headers.

        Raises:
            RequestError: 413.
            DataError: a header is damaged.
        """
        for file in files:
            size = prod(_shape(file))
            if size > self.max_megapixels * MEGA:
                raise RequestError(
                    413,
                    f"{file.name} has {size / MEGA:.1f} million {_UNITS[file.kind]}; send at most "
                    f"{self.max_megapixels:g} million, or start the API with a larger serving.max_megapixels",
                )


_UNITS: Final = {"picture": "pixels", "volume": "voxels"}


def _shape(file: StoredUpload) -> tuple[int, ...]:
    if file.kind == "picture":
        with open_picture(file.path) as image:
            return image.size
    with open_nifti(file.path, header_only=True) as (header, _):
        return header.shape


def _find_several_patients(names: Collection[ParsedName]) -> tuple[str, ...]:
    """Return a warning if the names of the files belong to different patients."""
    patients = {
        parse_patient(name.case) for name in names if name.kind is not None and name.sure and name.case
    }
    if len({patient.lower() for patient in patients}) < 2:
        return ()
    return (
        f"the file names belong to different patients ({', '.join(sorted(patients))}); send the volumes of "
        "one examination, or rename the files if they are of one",
    )


def _case(kind: str, files: Mapping[Any, StoredUpload]) -> CaseFiles:
    paths = tuple(dict.fromkeys(file.path for file in files.values()))
    key = next(iter(files.values())).key
    return CaseFiles(key, kind, tuple(files), paths, (), None, key.patient)
