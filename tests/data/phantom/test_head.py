import numpy as np

from slicewise.data.phantom.contrast import Head
from slicewise.data.phantom.fields import MARGIN, SHAPE, Points
from slicewise.data.phantom.patients import Subject
from slicewise.domain.labels import MODALITIES


def test_from_brain_to_air_through_dark_bone_and_bright_scalp(subject: Subject) -> None:
    rows, cols = (np.arange(-MARGIN, size + MARGIN, dtype=np.float32) for size in SHAPE[1:])
    plane = Points.box(np.array([90], dtype=np.float32), rows, cols)
    points, tissue = subject.brain.at(plane, floor=-30)
    head = Head(np.random.default_rng(4))
    flat = np.ones(tissue.depth.size, dtype=np.float32)
    middle_of_bone = -(1.6 + head.skull_mm * 0.12)
    for modality in MODALITIES:
        covered = head.cover(flat.copy(), modality, points, tissue)
        assert (covered[tissue.head > 0] == 1).all()
        assert covered[tissue.head < -25].max() == 0
        bone = covered[np.abs(tissue.head - middle_of_bone) < 0.4].mean()
        scalp = -(1.6 + head.skull_mm + head.scalp_mm / 2)
        fat = covered[np.abs(tissue.head - scalp) < 0.4].mean()
        assert bone < fat


def test_heads_differ() -> None:
    heads = [Head(np.random.default_rng(number)) for number in range(8)]
    assert len({head.skull_mm for head in heads}) == 8
    assert all(4 < head.skull_mm < 9 for head in heads)
