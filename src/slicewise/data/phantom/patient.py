"""Virtual patients: four contrasts and a label map in the layout and the file format of BraTS 2021."""

import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from slicewise.core.disk import set_filename
from slicewise.data.phantom.atlas import Bytes
from slicewise.data.phantom.fields import SHAPE, Points
from slicewise.data.phantom.subject import brain_points, draw_subject
from slicewise.domain.labels import MODALITIES

Shorts = np.ndarray[Any, np.dtype[np.int16]]

_AFFINE = np.array([[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=np.float64)
_PATIENT_STREAM = 0


@dataclass(frozen=True)
class PhantomPatient:
    """One examination. Arrays are [slice, row, col] in file order, 155 x 240 x 240 at 1 mm.

    `images` is int16 [4, ...] in the order of MODALITIES, 0 outside the brain; `labels` is uint8 with
    0 background, 1 necrosis, 2 oedema, 4 enhancing tumour.
    """

    name: str
    images: Shorts
    labels: Bytes


def patient_name(number: int) -> str:
    """Return the folder name of a virtual patient, `Phantom_00012`."""
    return f"Phantom_{number:05d}"


def generate_patient(number: int, seed: int) -> PhantomPatient:
    """Generate virtual patient `number`; the result depends on nothing but the two numbers."""
    subject = draw_subject((seed, _PATIENT_STREAM, number))
    points, tissue = subject.brain.at(brain_points(subject), subject.pushes, floor=-5.0)
    tumour = subject.compartments(points, tissue)
    kept = subject.mimics.skull_stripped(points, tissue)
    images = np.zeros((len(MODALITIES), *SHAPE), dtype=np.int16)
    extras, textures = subject.mimics.at(points, tissue), subject.scanner.textures(points)
    rng = np.random.default_rng([seed, _PATIENT_STREAM, number, 9])
    for slot, modality in enumerate(MODALITIES):
        signal = subject.scanner.signal(modality, tissue, extras, tumour, textures)
        values = subject.scanner.acquire(modality, points, signal, rng)[points.mask]
        # At least 1 inside the brain, since 0 means outside.
        _insert(images[slot], points, np.where(kept, np.clip(np.rint(values), 1, 32767), 0))
    labels = np.zeros(SHAPE, dtype=np.uint8)
    _insert(labels, points, np.where(kept, tumour.labels(), 0))
    return PhantomPatient(patient_name(number), images, labels)


def write_patient(folder: Path, number: int, seed: int) -> Path:
    """Write `folder/Phantom_00012/` with the five files BraTS has, and return it.

    The folder appears complete or not at all, with the same bytes every time; the remains of a killed process
    are removed by the next. An existing patient is kept.
    """
    target = folder / patient_name(number)
    if target.is_dir():
        return target
    patient = generate_patient(number, seed)
    partial = folder / f".{patient.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        for modality, image in zip(MODALITIES, patient.images, strict=True):
            _write_nifti(partial / f"{patient.name}_{modality}.nii.gz", image)
        _write_nifti(partial / f"{patient.name}_seg.nii.gz", patient.labels)
        partial.rename(target)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        set_filename(error, target)
        raise
    return target


def _insert(volume: np.ndarray[Any, Any], points: Points, values: np.ndarray[Any, Any]) -> None:
    """Write values [N] at the points of a full volume."""
    start = [int(axis[0]) for axis in (points.z, points.y, points.x)]
    box = tuple(slice(s, s + n) for s, n in zip(start, points.mask.shape, strict=True))
    volume[box][points.mask] = values


def _write_nifti(path: Path, volume: np.ndarray[Any, Any]) -> None:
    """Write [slice, row, col] as a gzipped NIfTI-1 file (x runs fastest); the gzip header has no time."""
    header = nib.Nifti1Header()
    header.set_data_dtype(volume.dtype)
    header.set_data_shape(volume.shape[::-1])
    header.set_qform(_AFFINE, code=1)
    header.set_sform(_AFFINE, code=1)
    header.set_xyzt_units("mm")
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    raw = header.binaryblock + b"\0" * 4 + np.ascontiguousarray(volume).tobytes()
    # Run-length matching suits zeros around noise. igzip is faster, but now and then encodes the same data in
    # other bytes, which changes the file's digest.
    compressor = zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS, 9, zlib.Z_RLE)
    path.write_bytes(compressor.compress(raw) + compressor.flush())
