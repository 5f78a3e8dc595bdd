"""Virtual patients: four contrasts and a label map in the layout and the file format of BraTS 2021."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip_lib

from slicewise.core.labels import MODALITIES
from slicewise.imaging.phantom.anatomy import Brain, Tissue
from slicewise.imaging.phantom.atlas import Bools, Bytes, Floats
from slicewise.imaging.phantom.contrast import Scanner
from slicewise.imaging.phantom.fields import SHAPE, Points
from slicewise.imaging.phantom.mimics import Mimics
from slicewise.imaging.phantom.tumour import Compartments, Tumour, draw_tumour

Shorts = np.ndarray[Any, np.dtype[np.int16]]

_AFFINE = np.array([[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=np.float64)
_SURVEY_MM = 4
_PATIENT_STREAM = 0


@dataclass(frozen=True)
class Subject:
    """Everything drawn about a patient, as functions of position; rendering only evaluates it."""

    brain: Brain
    mimics: Mimics
    scanner: Scanner
    tumour: Tumour | None
    survey: Points
    """Points every 4 mm in and near the brain."""
    tissue: Tissue
    """The tissue at the survey's points."""

    def compartments(self, points: Points, tissue: Tissue) -> Compartments:
        """Return the tumour's compartments at the points; all zero where there is none."""
        zero = np.zeros_like(tissue.csf)
        if self.tumour is None:
            return Compartments(zero, zero, zero)
        near = self.tumour.near(points)
        found = self.tumour.at(points.narrow(near), tissue.take(near))
        whole, core, rim = zero, zero.copy(), zero.copy()
        whole[near], core[near], rim[near] = found.whole, found.core, found.rim
        return Compartments(whole, core, rim)

    @property
    def pushes(self) -> tuple[Any, ...]:
        return self.tumour.pushes if self.tumour else ()


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


def draw_subject(
    key: Sequence[int], with_tumour: bool = True, millilitres: tuple[float, float] = (3.0, 150.0)
) -> Subject:
    """Draw a subject whose whole tumour has so many ml; each part has a random stream of its own."""
    streams = [np.random.default_rng([*key, part]) for part in range(4)]
    brain, mimics, scanner = Brain.draw(streams[0]), Mimics.draw(streams[1]), Scanner.draw(streams[2])
    points, tissue = brain.at(_survey(brain), floor=-9)
    if not with_tumour:
        return Subject(brain, mimics, scanner, None, points, tissue)
    tumour, core_ml = draw_tumour(streams[3], points, tissue, millilitres)
    _, tissue = brain.at(points, tumour.pushes)
    tumour = tumour.calibrate(points, tissue, _SURVEY_MM**3 / 1000, core_ml)
    return Subject(brain, mimics, scanner, tumour, points, tissue)


def _survey(brain: Brain) -> Points:
    """Return points every 4 mm that cover the brain and a margin, found by looking every 8 mm."""
    step = 2 * _SURVEY_MM
    coarse = Points.box(*(np.arange(step / 2, size, step, dtype=np.float32) for size in SHAPE))
    near = _refine(coarse.narrow(brain.depth(coarse) > -17).mask, 2)
    z, y, x = (np.arange(_SURVEY_MM / 2, size, _SURVEY_MM, dtype=np.float32) for size in SHAPE)
    return Points(z, y, x, _pad(near, (len(z), len(y), len(x))))


def _refine(mask: Bools, factor: int) -> Bools:
    return mask.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)


def _pad(mask: Bools, shape: tuple[int, ...]) -> Bools:
    """Cut or extend the far ends of a mask to a shape."""
    padding = [(0, max(0, want - have)) for want, have in zip(shape, mask.shape, strict=True)]
    return np.pad(mask, padding)[: shape[0], : shape[1], : shape[2]]


def brain_points(subject: Subject) -> Points:
    """Return every voxel in or near the brain, within its bounding box."""
    near = _refine(subject.survey.mask, _SURVEY_MM)[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    spans = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        found = np.flatnonzero(near.any(axis=others))
        spans.append(slice(int(found[0]), int(found[-1]) + 1))
    z, y, x = (np.arange(span.start, span.stop, dtype=np.float32) for span in spans)
    return Points(z, y, x, near[tuple(spans)])


def generate_patient(number: int, seed: int) -> PhantomPatient:
    """Generate virtual patient `number`; the result depends on nothing but the two numbers."""
    subject = draw_subject((seed, _PATIENT_STREAM, number))
    points, tissue = subject.brain.at(brain_points(subject), subject.pushes, floor=-5.0)
    tumour = subject.compartments(points, tissue)
    kept = subject.mimics.kept(points, tissue)
    labels = np.where(kept, tumour.labels(), 0).astype(np.uint8)
    images = np.zeros((len(MODALITIES), *SHAPE), dtype=np.int16)
    extras, textures = subject.mimics.at(points, tissue), subject.scanner.textures(points)
    rng = np.random.default_rng([seed, _PATIENT_STREAM, number, 9])
    for slot, modality in enumerate(MODALITIES):
        signal = subject.scanner.signal(modality, tissue, extras, tumour, textures)
        volume = subject.scanner.acquire(modality, points, signal, rng)
        _insert(images[slot], points, _as_short(volume[points.mask], kept))
    full = np.zeros(SHAPE, dtype=np.uint8)
    _insert(full, points, labels)
    return PhantomPatient(patient_name(number), images, full)


def write_patient(folder: Path, number: int, seed: int) -> Path:
    """Write `folder/Phantom_00012/` with the five files BraTS has, and return it.

    The folder appears complete or not at all; the bytes are the same every time. One that exists is kept.
    """
    target = folder / patient_name(number)
    if target.is_dir():
        return target
    patient = generate_patient(number, seed)
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(dir=folder, prefix=f".{patient.name}."))
    try:
        for modality, image in zip(MODALITIES, patient.images, strict=True):
            _write_nifti(partial / f"{patient.name}_{modality}.nii.gz", image)
        _write_nifti(partial / f"{patient.name}_seg.nii.gz", patient.labels)
        partial.chmod(0o755)
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return target


def _as_short(values: Floats, kept: Bools) -> Shorts:
    """Round to int16, at least 1 inside the brain so that 0 means outside."""
    return np.where(kept, np.clip(np.rint(values), 1, 32767), 0).astype(np.int16)


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
    path.write_bytes(igzip_lib.compress(raw, level=1, flag=igzip_lib.COMP_GZIP))
