"""Training cases as their model remembers them, and the cases of an external test compared with them."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import numpy as np

from slicewise.data.store import StoredCase
from slicewise.domain.reference import (
    SKULL_SHARE,
    Appearance,
    Difference,
    KnownPatients,
    TrainingReference,
    differences,
)
from slicewise.imaging.skull import SKULL, skull_contrast

_PERCENTILES: Final = (5, 50, 95)
_SLICES: Final = 5
"""Of a volume, whose intensities are measured"""
_MAX_SKULLS: Final = 50
"""Cases that are searched for a skull, evenly spaced"""
_MAX_CASES: Final = 300
"""Whose intensities are measured, evenly spaced"""


def describe_training(
    cases: Sequence[StoredCase], salt: str, earlier: TrainingReference | None = None
) -> TrainingReference:
    """Return what a model remembers of its training and validation cases.

    `earlier` is what the model remembered that it begins with.
    """
    names, contents = (
        [case.key.patient for case in cases if _kind(case) == "volume"],
        [*map(content_of, cases)],
    )
    own = KnownPatients.of(salt, names, contents)
    others = [
        known
        for known in (earlier.patients if earlier else ())
        if {*known.contents} - {*KnownPatients.of(known.salt, names, contents).contents}
    ]
    appearance = {kind: _appearance(_values(own), own) for kind, own in _by_kind(cases).items()}
    return TrainingReference((own, *others), appearance)


def content_of(case: StoredCase) -> str:
    """Return the SHA-256 of the prepared images: the same for a renamed or recompressed copy of the files."""
    return str(case.files["images.npy"]["sha256"])


def known_patients(reference: TrainingReference, cases: Sequence[StoredCase]) -> dict[tuple[str, str], str]:
    """Return the reason for each (source, group) of the cases that the model was trained on."""
    names = reference.names_of({case.key.patient for case in cases if _kind(case) == "volume"})
    contents = reference.contents_of({*map(content_of, cases)})
    reasons = {}
    for case in cases:
        if content_of(case) in contents:
            reasons[case.key.source, case.group] = "the same images"
        elif case.key.patient in names and _kind(case) == "volume":
            reasons.setdefault((case.key.source, case.group), "the same name")
    return reasons


def compare_with_training(reference: TrainingReference, cases: Sequence[StoredCase]) -> list[Difference]:
    """Return how the cases differ from those of the training: size, spacing, intensity, modalities, class."""
    rows = []
    for kind, own in _by_kind(cases).items():
        values = _values(own)
        training = reference.appearance.get(kind, Appearance(0))
        rows += differences(kind, training, _appearance(values, own), values)
    return rows


def _kind(case: StoredCase) -> str:
    return "picture" if case.pixel_mm is None and len(case.labels) == 1 else "volume"


def _by_kind(cases: Sequence[StoredCase]) -> dict[str, list[StoredCase]]:
    kinds: dict[str, list[StoredCase]] = {}
    for case in cases:
        if len(case.labels):
            kinds.setdefault(_kind(case), []).append(case)
    return kinds


def _appearance(values: Mapping[str, list[float]], cases: Sequence[StoredCase]) -> Appearance:
    ranges = {}
    for what, own in values.items():
        low, median, high = map(float, np.percentile(own, _PERCENTILES))
        ranges[what] = (low, median, high)
    return Appearance(len(cases), ranges, dict(_shares(cases)))


def _values(cases: Sequence[StoredCase]) -> dict[str, list[float]]:
    """Return the numbers of each property over the cases that have it."""
    values: dict[str, list[float]] = defaultdict(list)
    measured = {*np.linspace(0, len(cases) - 1, min(len(cases), _MAX_CASES)).astype(int).tolist()}
    for place, case in enumerate(cases):
        for what, value in (*_geometry(case), *(_intensities(case) if place in measured else ())):
            values[what].append(value)
    return dict(values)


def _geometry(case: StoredCase) -> Iterator[tuple[str, float]]:
    slices, rows, columns = case.geometry.shape
    yield "rows, pixels", rows
    yield "columns, pixels", columns
    if _kind(case) == "volume":
        yield "slices", slices
    if case.pixel_mm is not None:  # that of the file, before the box was resized
        yield "pixel size, mm", case.pixel_mm * case.image_size / case.geometry.height
        yield "slice spacing, mm", case.slice_mm
    if case.has_mask:
        sizes = np.count_nonzero(case.masks, axis=(1, 2))
        if sizes.any():
            yield "largest mask, share of the slice", float(sizes.max()) / case.image_size**2


def _intensities(case: StoredCase) -> Iterator[tuple[str, float]]:
    """Yield the percentiles of the prepared intensities of each channel, outside the background."""
    number = len(case.labels)
    rows = np.unique(np.linspace(0, number - 1, min(number, _SLICES) + 2).astype(int)[1:-1])
    images = case.read(rows.tolist()).astype(np.float32)
    inside = (images != 0).any(axis=1)
    if not inside.any():
        return
    for channel, (name, present) in enumerate(zip(case.channels, case.presence, strict=True)):
        if present:
            numbers = np.percentile(images[:, channel][inside], _PERCENTILES)
            for percentile, value in zip(_PERCENTILES, numbers, strict=True):
                yield f"{name}, {percentile}th percentile", float(value)


def _has_skull(case: StoredCase) -> bool:
    number = len(case.labels)
    rows = np.unique(np.linspace(0, number - 1, min(number, _SLICES) + 2).astype(int)[1:-1])
    return skull_contrast(case.read(rows.tolist()), case.presence) >= SKULL


def _shares(cases: Sequence[StoredCase]) -> Iterator[tuple[str, float]]:
    measured = np.unique(np.linspace(0, len(cases) - 1, min(len(cases), _MAX_SKULLS)).astype(int))
    yield SKULL_SHARE, float(np.mean([_has_skull(cases[place]) for place in measured]))
    for name in cases[0].channels:
        yield (
            f"cases with {name}",
            float(np.mean([dict(zip(c.channels, c.presence, strict=True))[name] for c in cases])),
        )
    labels = np.concatenate([case.labels for case in cases])
    yield "slices with a tumour", float(np.mean(labels == 1))
    yield "cases with a mask", float(np.mean([case.has_mask for case in cases]))
