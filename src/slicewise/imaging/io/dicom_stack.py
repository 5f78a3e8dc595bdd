"""Stacks of DICOM frames: the slices of a series on one voxel grid, in their order in the patient.

Slices are sorted by their position along the normal of the slice plane, never by number or name. A stack has
one orientation, one size of pixels, and one slice per position at even distances; missing ones leave gaps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slicewise.core.errors import VolumeError
from slicewise.imaging.io.dicom_frames import Frame
from slicewise.imaging.io.nifti_header import MAX_SKEW, MAX_VOXELS
from slicewise.imaging.nib import nib
from slicewise.imaging.orientation import Orientation, format_sizes

_LPS_TO_RAS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])
_MAX_COSINE_ERROR: Final = 0.01
"""Of the length of a direction, and of the cosine between the two; files give 6 digits or more."""
_SAME_ORIENTATION: Final = 1e-3
"""Frames whose direction cosines differ by less belong to one stack."""
_SAME_POSITION_MM: Final = 0.01
_MAX_UNEVEN: Final = 0.1
"""A slice may lie off its place on the even grid by this share of a voxel."""
_MAX_MISSING: Final = 0.25
"""Share of the slices that may be missing between the first and the last one."""
_CONVERT: Final = "; export the series again, or convert it (`dcm2niix FOLDER`) and check the volume"
_RESAMPLE: Final = ", and SliceWise does not resample" + _CONVERT


class SeriesFault(NamedTuple):
    """Why frames are no stack, and what to do."""

    frames: tuple[Frame, ...]
    message: str


@dataclass(frozen=True)
class Stack:
    """Frames on one grid, from the first to the last along the normal."""

    frames: tuple[Frame, ...]
    places: tuple[int, ...]
    """Slice of each frame along the last axis of the grid; those between that are missing hold no frame"""
    orientation: Orientation
    """Axes in file order: columns, rows, slices"""
    remarks: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        return self.frames[0].label


def build_stacks(frames: Sequence[Frame]) -> tuple[list[Stack], list[SeriesFault]]:
    """Return the stacks of the frames of one series, and why the other frames are in none.

    A series with several orientations, sizes or spacings has a stack of each; frames at one position belong
    to stacks of different echo times, b-values, times and so on.
    """
    placed = [frame for frame in frames if frame.position and frame.cosines and frame.spacing]
    faults = []
    if lost := [frame for frame in frames if frame not in placed]:
        faults.append(SeriesFault(tuple(lost), _describe_lost(lost)))
    stacks = []
    for part in (part for group in _by_plane(placed) for part in _split_repeats(group)):
        try:
            stacks.append(_build(part))
        except VolumeError as fault:
            faults.append(SeriesFault(tuple(part), str(fault)))
    return stacks, faults


def _describe_lost(frames: Sequence[Frame]) -> str:
    names = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
    values = [(frame.position, frame.cosines, frame.spacing) for frame in frames]
    absent = [name for place, name in enumerate(names) if any(each[place] is None for each in values)]
    return (
        f"{len(frames)} frame(s) without {', '.join(absent)}, so their place in the patient is unknown; "
        "export the series with these tags, or save the slices as pictures (PNG)"
    )


def _by_plane(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Return the frames grouped by slice plane: size, spacing and orientation."""
    groups: list[list[Frame]] = []
    for frame in frames:
        for group in groups:
            if _same_plane(group[0], frame):
                group.append(frame)
                break
        else:
            groups.append([frame])
    return groups


def _same_plane(first: Frame, other: Frame) -> bool:
    close = np.allclose(_cosines(first), _cosines(other), rtol=0, atol=_SAME_ORIENTATION)
    return first.shape == other.shape and close and np.allclose(_spacing(first), _spacing(other), rtol=1e-4)


def _cosines(frame: Frame) -> NDArray[np.float64]:
    return np.array(frame.cosines).reshape(2, 3)


def _spacing(frame: Frame) -> NDArray[np.float64]:
    return np.array(frame.spacing)


def _distances(frames: Sequence[Frame]) -> NDArray[np.float64]:
    """Return the place of each frame along the normal of the first one, in mm."""
    positions = np.array([frame.position for frame in frames])
    return np.asarray(positions @ np.cross(*_cosines(frames[0])))


def _split_repeats(frames: list[Frame]) -> list[list[Frame]]:
    """Return the frames in parts with one frame per position, by the tags that tell them apart."""
    if not (np.diff(np.sort(_distances(frames))) < _SAME_POSITION_MM).any():
        return [frames]
    for tag in range(len(frames[0].splitting)):
        ordered = sorted(frames, key=lambda frame: frame.splitting[tag])
        parts = [[*part] for _, part in groupby(ordered, key=lambda frame: frame.splitting[tag])]
        if len(parts) > 1:
            return [small for part in parts for small in _split_repeats(part)]
    return [frames]


def _build(frames: Sequence[Frame]) -> Stack:
    """Return the stack of frames with one slice plane.

    Raises:
        VolumeError: they lie on no even grid; the message is the fault without the series.
    """
    distances = _distances(frames)
    order = np.argsort(distances, kind="stable")
    frames, distances = [frames[place] for place in order], distances[order] - distances[order[0]]
    _require_plane(frames[0])
    _require_no_repeat(frames, distances)
    places = _even_places(distances)
    step, remarks = _step(frames, places)
    count = int(places[-1]) + 1
    orientation = _orientation(frames[0], step, count)
    if not orientation.is_usable:
        raise VolumeError(f"its positions span no volume{_CONVERT}")
    _require_even(frames, places, step, distances)
    if (skew := orientation.skew()) > MAX_SKEW:
        raise VolumeError(f"its slices are sheared by {skew:.1f} degrees{_RESAMPLE}")
    if np.prod(orientation.shape) > MAX_VOXELS:
        raise VolumeError(f"{format_sizes(orientation.shape)} voxels are too many")
    remarks = (*remarks, *_describe_holes(places.tolist()))
    return Stack(tuple(frames), tuple(places.tolist()), orientation, remarks)


def _require_plane(frame: Frame) -> None:
    """Raise if the directions or sizes of a frame span no plane of pixels."""
    cosines = _cosines(frame)
    lengths, between = np.linalg.norm(cosines, axis=1), abs(float(cosines[0] @ cosines[1]))
    if np.abs(lengths - 1).max() > _MAX_COSINE_ERROR or between > _MAX_COSINE_ERROR:
        raise VolumeError(f"its ImageOrientationPatient holds no two directions at right angles{_CONVERT}")
    if _spacing(frame).min() <= 0 or min(frame.shape) < 1:
        raise VolumeError(f"its frames have no pixels, or no size in PixelSpacing{_CONVERT}")


def _require_no_repeat(frames: Sequence[Frame], distances: NDArray[np.float64]) -> None:
    repeated = np.flatnonzero(np.diff(distances) < _SAME_POSITION_MM)
    if not len(repeated):
        return
    one, other = frames[repeated[0]], frames[repeated[0] + 1]
    names = [one.path.name, other.path.name] if one.path != other.path else [one.path.name]
    raise VolumeError(
        f"{len(repeated)} of {len(frames)} slices lie where another one lies (such as in "
        f"{' and '.join(names)}), and no tag tells them apart; keep one slice per position"
    )


def _even_places(distances: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the slice of each frame, counted in steps of the most usual distance."""
    if len(distances) == 1:
        return np.zeros(1, np.int64)
    return np.rint(distances / np.median(np.diff(distances))).astype(np.int64)


def _step(frames: Sequence[Frame], places: NDArray[np.int64]) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the vector from slice to slice in mm, and a remark where it is assumed."""
    first = frames[0]
    if len(frames) == 1:
        remark = "a single slice without SliceThickness: 1 mm is assumed, and volumes in ml depend on it"
        thickness = first.thickness or 1.0
        return np.cross(*_cosines(first)) * thickness, () if first.thickness else (remark,)
    whole = np.subtract(frames[-1].position, first.position)  # type: ignore[arg-type]  # all have one
    return np.asarray(whole / max(1, places[-1])), ()


def _require_even(
    frames: Sequence[Frame],
    places: NDArray[np.int64],
    step: NDArray[np.float64],
    distances: NDArray[np.float64],
) -> None:
    positions = np.array([frame.position for frame in frames])
    off = positions - positions[0] - places[:, None] * step
    normal = np.cross(*_cosines(frames[0]))
    sizes = [*_spacing(frames[0])[::-1], abs(step @ normal)]
    missing = int(places[-1]) + 1 - len(frames)
    too_far = (np.abs(off @ np.vstack([*_cosines(frames[0]), normal]).T) / sizes).max() > _MAX_UNEVEN
    if too_far or (np.diff(places) < 1).any() or missing > _MAX_MISSING * len(frames):
        gaps = np.diff(distances)
        raise VolumeError(
            f"its slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart, which is no even grid{_RESAMPLE}"
        )


def _describe_holes(places: Sequence[int]) -> tuple[str, ...]:
    holes = [place for before, after in pairwise(places) for place in range(before + 1, after)]
    if not holes:
        return ()
    named = ", ".join(str(hole + 1) for hole in holes[:5]) + (", ..." if len(holes) > 5 else "")
    return (
        f"{len(holes)} of {places[-1] + 1} slices are missing (number {named} from the first position on): "
        "they are empty, have no mask, and volumes in ml are too small; copy the series again",
    )


def _orientation(frame: Frame, step: NDArray[np.float64], count: int) -> Orientation:
    """Return the grid of a stack, as NIfTI describes it; the axes are columns, rows, slices."""
    along_row, along_column = _cosines(frame)
    between_rows, between_columns = _spacing(frame)
    affine = np.eye(4)
    affine[:3, :3] = np.column_stack([along_row * between_columns, along_column * between_rows, step])
    affine[:3, 3] = frame.position
    affine = _LPS_TO_RAS @ affine
    rows, cols = frame.shape
    header = nib.Nifti1Header()
    header.set_data_shape((cols, rows, count))
    header.set_xyzt_units("mm")
    header.set_sform(affine, code="scanner")
    header.set_qform(affine, code="scanner")  # without the shear, where there is one
    return Orientation(tuple(map(tuple, affine.tolist())), (cols, rows, count), header.binaryblock)
