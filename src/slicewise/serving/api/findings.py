"""A finding: a prediction with the images that it is for; as one file, from which all of it is made again.

The file is a ZIP with the images, what the models returned for them, and the response as JSON. Masks, maps
and drawings are derived from these, so they are the same before and after a restart.
"""

import base64
import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Final, get_args

import numpy as np
from isal import igzip
from numpy.typing import NDArray

from slicewise.core.files import parse_json
from slicewise.domain.keys import CaseKey
from slicewise.imaging.orientation import Orientation
from slicewise.imaging.volume import Volume
from slicewise.inference.operating_points import InputKind
from slicewise.inference.pipeline import Pipeline
from slicewise.inference.prediction import Prediction, SlicePredictions
from slicewise.plots.slices import SliceRenderer
from slicewise.serving.api.input_files import RequestInput

_FORMAT: Final = 1
_ABOUT: Final = "about.json"
_DICOM_SEG: Final = "seg.dcm"
_MAX_BYTES: Final = 4 << 30
"""Of one array, as its header states it."""
_LEVEL: Final = 1


@dataclass(frozen=True)
class Finding:
    """A prediction that can be looked at again."""

    key: str
    inputs: RequestInput
    prediction: Prediction
    renderer: SliceRenderer
    response: Mapping[str, Any]
    """The JSON of the response"""
    truth: NDArray[np.bool_] | None = None
    """[K, slice, row, col] the reference mask of each class that was sent with the images"""
    dicom_seg: bytes | None = None
    """The mask as DICOM-SEG, of images that were sent as DICOM"""

    @property
    def volume(self) -> Volume:
        return self.inputs.volume

    @property
    def num_bytes(self) -> int:
        """Memory of its largest arrays."""
        prediction = self.prediction
        images = (self.volume.images, self.renderer.image, prediction.slices.images)
        arrays = (*images, prediction.mask_probability, prediction.masks)
        return sum(array.nbytes for array in arrays if array is not None)


class OtherModelError(ValueError):
    """A finding was predicted by another model, or with other settings."""


def write_finding(stream: IO[bytes], finding: Finding, model: str) -> None:
    """Write a finding; `model` identifies the model and its settings."""
    volume, prediction = finding.volume, finding.prediction
    orientation = volume.orientation
    about = {
        "format": _FORMAT,
        "model": model,
        "kind": finding.inputs.kind,
        "notes": list(finding.inputs.notes),
        "is_stack": finding.inputs.is_stack,
        "channels": list(volume.channels),
        "presence": list(volume.presence),
        "spacing": list(volume.spacing),
        "remarks": list(volume.remarks),
        "orientation": orientation
        and {**asdict(orientation), "header": base64.b64encode(orientation.header).decode()},
        "response": finding.response,
    }
    arrays: dict[str, NDArray[Any] | None] = {
        "images": volume.images[list(volume.presence)],
        "masks": prediction.mask_probability,
        "classes": prediction.class_probability,
        "truth": finding.truth,
    }
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(_ABOUT, json.dumps(about, allow_nan=False))
        for name, array in arrays.items():
            if array is not None:
                archive.writestr(f"{name}.npy.gz", _packed(array))
        if finding.dicom_seg is not None:
            archive.writestr(_DICOM_SEG, finding.dicom_seg, zipfile.ZIP_DEFLATED)


def read_finding(path: Path, key: str, pipeline: Pipeline, model: str) -> Finding:
    """Read a finding.

    Raises:
        OtherModelError: it is that of another model.
        Exception: the file is damaged, in any way that damage shows.
    """
    with zipfile.ZipFile(path) as archive:
        about = parse_json(archive.read(_ABOUT))
        if (about["format"], about["model"]) != (_FORMAT, model):
            raise OtherModelError(key)
        names = {*archive.namelist()}
        stored, masks, classes = (_unpacked(archive, name) for name in ("images", "masks", "classes"))
        truth = _unpacked(archive, "truth") if "truth.npy.gz" in names else None
        dicom_seg = archive.read(_DICOM_SEG) if _DICOM_SEG in names else None
    presence = np.array(about["presence"], np.bool_)
    images = np.zeros((len(presence), *stored.shape[1:]), stored.dtype)
    images[presence] = stored
    if about["kind"] not in get_args(InputKind):
        raise ValueError(f"{about['kind']!r} is no kind of input")
    volume = Volume(
        CaseKey("upload", "finding", "finding"),
        images,
        tuple(presence.tolist()),
        None,
        None,
        tuple(about["spacing"]),
        _orientation(about["orientation"]),
        tuple(about["remarks"]),
        tuple(about["channels"]),
    )
    prepared = pipeline.prepare(volume, kind=about["kind"])
    if len(masks) != len(prepared.slices.images):
        raise ValueError(f"{len(masks)} predicted slices for {len(prepared.slices.images)}")
    prediction = pipeline.complete(prepared, SlicePredictions(masks, classes))
    inputs = RequestInput(volume, about["kind"], tuple(about["notes"]), bool(about["is_stack"]))
    return Finding(key, inputs, prediction, SliceRenderer.of(volume), about["response"], truth, dicom_seg)


def _orientation(value: dict[str, Any] | None) -> Orientation | None:
    if value is None:
        return None
    affine = tuple(tuple(map(float, row)) for row in value["affine"])
    first, second, third = map(int, value["shape"])
    header = base64.b64decode(value["header"])
    return Orientation(affine, (first, second, third), header, bool(value["assumed"]))


def _packed(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
    packed: bytes = igzip.compress(buffer.getbuffer(), compresslevel=_LEVEL, mtime=0)
    return packed


def _unpacked(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    with archive.open(f"{name}.npy.gz") as packed, igzip.open(packed, "rb") as stream:
        array: NDArray[Any] = np.load(io.BytesIO(stream.read(_MAX_BYTES)), allow_pickle=False)
    return array
