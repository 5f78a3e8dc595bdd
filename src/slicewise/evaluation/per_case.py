"""Every score of a slice or a patient by name, None where it is undefined."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from slicewise.imaging.geometry import pad_missing_slices
from slicewise.metrics.confusion import PIXEL_SCORES, Overlap
from slicewise.metrics.surface_distance import (
    Bools,
    SurfaceDistances,
    boundary_f1,
    boundary_tolerance,
    hd95,
    surface_dice,
    surface_distances,
)

BORDER_SCORES: Final = ("boundary_f1", "nsd", "hd95_mm")
MASK_SCORES: Final = (*PIXEL_SCORES, *BORDER_SCORES)

Scores = dict[str, float | None]


class CaseGeometry(Protocol):
    """What borders are measured in: a case's slices and the size of its voxels."""

    @property
    def indices(self) -> Sequence[int]: ...
    @property
    def pixel_mm(self) -> float | None: ...
    @property
    def slice_mm(self) -> float: ...


@dataclass(frozen=True)
class CaseBorders:
    """The borders of one case: of each slice in pixels, of the volume in mm where sizes are known."""

    slices: tuple[SurfaceDistances, ...]
    volume: SurfaceDistances | None
    pixel_mm: float | None
    side: int


def measure_borders(case: CaseGeometry, reference: Bools, predicted: Bools) -> CaseBorders:
    """Measure two masks [S, N, N] slice by slice and as a volume."""
    pairs = zip(reference, predicted, strict=True)
    slices = tuple(surface_distances(truth, guess, (1.0, 1.0)) for truth, guess in pairs)
    volume = None
    if case.pixel_mm is not None:
        truth, guess = (pad_missing_slices(masks, case.indices) for masks in (reference, predicted))
        volume = surface_distances(truth, guess, (case.slice_mm, case.pixel_mm, case.pixel_mm))
    return CaseBorders(slices, volume, case.pixel_mm, reference.shape[-1])


def slice_scores(
    overlap: Overlap | None, borders: CaseBorders | None, tolerance_mm: float, num_slices: int
) -> list[Scores]:
    """Return the scores of each slice, in the plane; all None without a mask."""
    if overlap is None:
        return [dict.fromkeys(MASK_SCORES) for _ in range(num_slices)]
    columns = {name: score(overlap) for name, score in PIXEL_SCORES.items()}
    rows = [{name: _number(values[place]) for name, values in columns.items()} for place in range(num_slices)]
    return [
        {**row, **_slice_borders(borders, place, tolerance_mm)} for place, row in enumerate(rows)
    ]  # fmt: skip


def patient_scores(overlap: Overlap | None, borders: Sequence[CaseBorders], tolerance_mm: float) -> Scores:
    """Return the scores of all slices and cases of a patient together; surfaces are those of the volumes."""
    if overlap is None:
        return dict.fromkeys(MASK_SCORES)
    scores = {name: _number(score(overlap)) for name, score in PIXEL_SCORES.items()}
    if not borders:
        return {**scores, **dict.fromkeys(BORDER_SCORES)}
    flat = SurfaceDistances.pooled([distances for case in borders for distances in case.slices])
    scores["boundary_f1"] = boundary_f1(flat, boundary_tolerance(borders[0].side))
    volumes = [case.volume for case in borders if case.volume is not None]
    if len(volumes) < len(borders):
        return {**scores, "nsd": None, "hd95_mm": None}
    pooled = SurfaceDistances.pooled(volumes)
    return {**scores, "nsd": surface_dice(pooled, tolerance_mm), "hd95_mm": hd95(pooled)}


def _slice_borders(borders: CaseBorders | None, place: int, tolerance_mm: float) -> Scores:
    if borders is None:
        return dict.fromkeys(BORDER_SCORES)
    distances = borders.slices[place]
    scores: Scores = {"boundary_f1": boundary_f1(distances, boundary_tolerance(borders.side))}
    if borders.pixel_mm is None:
        return {**scores, "nsd": None, "hd95_mm": None}
    in_mm = distances.scaled(borders.pixel_mm)
    return {**scores, "nsd": surface_dice(in_mm, tolerance_mm), "hd95_mm": hd95(in_mm)}


def _number(value: NDArray[np.float64] | float) -> float | None:
    return float(value) if np.isfinite(value) else None
