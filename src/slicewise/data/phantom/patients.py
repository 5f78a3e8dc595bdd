"""Virtual patients: what is drawn at random about one, and its files in the layout of BraTS 2021."""

import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from slicewise.core.console import progress
from slicewise.core.disk import MIB, require_space, set_filename
from slicewise.core.parallel import map_cases
from slicewise.data.phantom.anatomy import Brain, Push, Tissue
from slicewise.data.phantom.contrast import Mimics, Scanner
from slicewise.data.phantom.fields import SHAPE, Bools, Bytes, Points
from slicewise.data.phantom.tumour import Compartments, Tumour, draw_tumour
from slicewise.domain.labels import MODALITIES
from slicewise.imaging.nib import nib

Shorts = np.ndarray[Any, np.dtype[np.int16]]

BYTES_PER_PATIENT: Final = 10 * MIB
WORKER_MIB: Final = 700
"""Largest memory of one worker, as measured."""
_AFFINE = np.array([[-1, 0, 0, 0], [0, -1, 0, 239], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=np.float64)
_PATIENT_STREAM = 0
_SURVEY_MM = 4
_SLAB = 4
"""Slices that are rendered at once"""


class Subject:
    """Everything drawn about a patient, as functions of position; rendering only evaluates it.

    `survey` is points every 4 mm in and near the brain, and `tissue` what is there. `millilitres` bounds the
    tumour's volume. Each part has its own random stream.
    """

    def __init__(
        self, key: Sequence[int], with_tumour: bool = True, millilitres: tuple[float, float] = (3.0, 150.0)
    ) -> None:
        streams = [np.random.default_rng([*key, part]) for part in range(4)]
        self.brain, self.mimics, self.scanner = Brain(streams[0]), Mimics(streams[1]), Scanner(streams[2])
        self.survey, self.tissue = self.brain.at(_survey(self.brain), floor=-9)
        self.tumour: Tumour | None = None
        if with_tumour:
            tumour, core_ml = draw_tumour(streams[3], self.survey, self.tissue, millilitres)
            _, self.tissue = self.brain.at(self.survey, tumour.pushes)
            self.tumour = tumour.calibrate(self.survey, self.tissue, _SURVEY_MM**3 / 1000, core_ml)

    def compartments(self, points: Points, tissue: Tissue) -> Compartments:
        """Return the tumour's compartments at the points; all zero where there is none."""
        whole, core, rim = (np.zeros_like(tissue.csf) for _ in range(3))
        if self.tumour is not None:
            near = self.tumour.near(points)
            inner = self.tumour.at(points.narrow(near), tissue.take(near))
            whole[near], core[near], rim[near] = inner.whole, inner.core, inner.rim
        return Compartments(whole, core, rim)

    @property
    def pushes(self) -> tuple[Push, ...]:
        return self.tumour.pushes if self.tumour else ()


def _survey(brain: Brain) -> Points:
    """Return points every 4 mm that cover the brain and a margin, which points every 8 mm determine."""
    step = 2 * _SURVEY_MM
    coarse = Points.box(*(np.arange(step / 2, size, step, dtype=np.float32) for size in SHAPE))
    near = _refine(coarse.narrow(brain.depth(coarse) > -17).mask, 2)
    z, y, x = (np.arange(_SURVEY_MM / 2, size, _SURVEY_MM, dtype=np.float32) for size in SHAPE)
    mask = np.zeros((len(z), len(y), len(x)), np.bool_)
    mask[: len(near)] = near
    return Points(z, y, x, mask)


def _refine(mask: Bools, factor: int) -> Bools:
    return mask.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)


def brain_points(subject: Subject) -> Points:
    """Return every voxel in or near the brain, within its bounding box."""
    near = _refine(subject.survey.mask, _SURVEY_MM)[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    ends = [np.flatnonzero(near.any(axis=axes))[[0, -1]] for axes in ((1, 2), (0, 2), (0, 1))]
    box = tuple(slice(first, last + 1) for first, last in ends)
    z, y, x = (np.arange(first, last + 1, dtype=np.float32) for first, last in ends)
    return Points(z, y, x, near[box])


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
    subject = Subject((seed, _PATIENT_STREAM, number))
    scanner, near = subject.scanner, brain_points(subject)
    signals = {modality: np.zeros(near.mask.shape, np.float32) for modality in MODALITIES}
    kept, marks = np.zeros(near.mask.shape, np.bool_), np.zeros(near.mask.shape, np.uint8)
    for part, slab in near.slabs(_SLAB):
        points, tissue = subject.brain.at(slab, subject.pushes, floor=-5.0)
        tumour, extras = subject.compartments(points, tissue), subject.mimics.at(points, tissue)
        textures, inside = scanner.textures(points), subject.mimics.skull_stripped(points, tissue)
        kept[part], marks[part] = points.grid(inside), points.grid(np.where(inside, tumour.labels(), 0))
        for modality, volume in signals.items():
            signal = scanner.signal(modality, tissue, extras, tumour, textures)
            volume[part] = points.grid(scanner.shade(modality, points, signal))
    images, labels = np.zeros((len(MODALITIES), *SHAPE), np.int16), np.zeros(SHAPE, np.uint8)
    rng = np.random.default_rng([seed, _PATIENT_STREAM, number, 9])
    box = tuple(slice(int(axis[0]), int(axis[-1]) + 1) for axis in (near.z, near.y, near.x))
    labels[box] = marks
    for image, (modality, volume) in zip(images, signals.items(), strict=True):
        for target, plane, mask in zip(image[box], scanner.expose(modality, volume, rng), kept, strict=True):
            # At least 1 inside the brain, since 0 means outside.
            np.multiply(np.clip(np.rint(plane), 1, 32767), mask, out=target, casting="unsafe")
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


def materialise_patients(folder: Path, numbers: Sequence[int], seed: int, num_workers: int) -> list[Path]:
    """Write those of the virtual patients that are missing in `folder`; return all their folders in order.

    With `num_workers` 1 the work is done in this process; 0 stands for one process per core.

    Raises:
        DataError: the system killed a worker, mostly for lack of memory.
        WorkspaceError: the disk has no room for the missing patients.
    """
    folders = {number: folder / patient_name(number) for number in numbers}
    if missing := [number for number, path in folders.items() if not path.is_dir()]:
        require_space(folder, len(missing) * BYTES_PER_PATIENT, f"generating {len(missing)} patients")
        write = partial(write_patient, folder, seed=seed)
        done = map_cases(write, missing, name=patient_name, num_workers=num_workers, memory_mib=WORKER_MIB)
        for _ in progress(done, total=len(missing), desc="Generating patients", unit="patient"):
            pass
    return [folders[number] for number in numbers]
