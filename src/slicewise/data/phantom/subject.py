"""Virtual subjects: everything drawn about one person, still without a voxel."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from slicewise.data.phantom.anatomy import Brain, Push, Tissue
from slicewise.data.phantom.atlas import Bools
from slicewise.data.phantom.contrast import Scanner
from slicewise.data.phantom.fields import SHAPE, Points
from slicewise.data.phantom.mimics import Mimics
from slicewise.data.phantom.tumour import Compartments, Tumour, draw_tumour

_SURVEY_MM = 4


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
        inner = self.tumour.at(points.narrow(near), tissue.take(near))
        whole, core, rim = zero, zero.copy(), zero.copy()
        whole[near], core[near], rim[near] = inner.whole, inner.core, inner.rim
        return Compartments(whole, core, rim)

    @property
    def pushes(self) -> tuple[Push, ...]:
        return self.tumour.pushes if self.tumour else ()


def draw_subject(
    key: Sequence[int], with_tumour: bool = True, millilitres: tuple[float, float] = (3.0, 150.0)
) -> Subject:
    """Draw a subject; `millilitres` bounds the tumour's volume. Each part has its own random stream."""
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
    """Return points every 4 mm that cover the brain and a margin, which points every 8 mm determine."""
    step = 2 * _SURVEY_MM
    coarse = Points.box(*(np.arange(step / 2, size, step, dtype=np.float32) for size in SHAPE))
    near = _refine(coarse.narrow(brain.depth(coarse) > -17).mask, 2)
    z, y, x = (np.arange(_SURVEY_MM / 2, size, _SURVEY_MM, dtype=np.float32) for size in SHAPE)
    mask = np.zeros((len(z), len(y), len(x)), np.bool_)
    shared = tuple(slice(min(sizes)) for sizes in zip(mask.shape, near.shape, strict=True))
    mask[shared] = near[shared]
    return Points(z, y, x, mask)


def _refine(mask: Bools, factor: int) -> Bools:
    return mask.repeat(factor, 0).repeat(factor, 1).repeat(factor, 2)


def brain_points(subject: Subject) -> Points:
    """Return every voxel in or near the brain, within its bounding box."""
    near = _refine(subject.survey.mask, _SURVEY_MM)[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    spans = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        inside = np.flatnonzero(near.any(axis=others))
        spans.append(slice(int(inside[0]), int(inside[-1]) + 1))
    z, y, x = (np.arange(span.start, span.stop, dtype=np.float32) for span in spans)
    return Points(z, y, x, near[tuple(spans)])
