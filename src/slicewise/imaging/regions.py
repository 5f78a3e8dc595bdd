"""Regions of masks: connected parts, outlines filled, growing and shrinking, distances to the edge.

Pieces are filled by OpenCV where it is installed, in a hundredth of the time; both ways give the same pixels.
The rest is NumPy alone, so that a prediction from an exported model needs neither OpenCV nor SciPy.
"""

from collections.abc import Iterator
from itertools import product
from typing import Final

import numpy as np
from numpy.typing import NDArray

from slicewise.imaging.opencv import cv2

Bools = NDArray[np.bool_]
Labels = NDArray[np.int32]
Numbers = NDArray[np.intp]
_STEP: Final = 1 << 16
_ABOVE: Final = (
    *((2, -1, 2.1969), (2, 1, 2.1969), (1, -2, 2.1969), (1, 2, 2.1969)),
    *((1, -1, 1.4), (1, 1, 1.4), (1, 0, 1.0)),
)
"""Rows up, columns to the right, and length of the steps of a 5 x 5 chamfer distance (Borgefors 1986)"""
_FAR: Final = 1 << 40


def label(mask: Bools, *, diagonal: bool = True) -> tuple[Labels, int]:
    """Return the number of each voxel's connected part, in raster order from 1 on, and how many there are.

    The mask has two axes or more. Neighbours are those along the axes, with `diagonal` also across corners: 8
    in a plane, 26 in space. Runs along the last axis are joined with those that they touch.
    """
    width = mask.shape[-1]
    padded = np.zeros((mask.size // width, width + 2), np.int8)
    padded[:, 1:-1] = mask.reshape(-1, width)
    changes = np.diff(padded, axis=1)
    line, first = np.nonzero(changes > 0)
    last = np.nonzero(changes < 0)[1] - 1
    pairs = [*_touching(line, first, last, mask.shape, diagonal=diagonal)]
    one, other = (np.concatenate(part) for part in zip(*pairs, strict=True))
    roots = _join(np.arange(len(line)), one, other)
    numbers = np.cumsum(roots == np.arange(len(roots)), dtype=np.int32)
    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = np.repeat(numbers[roots], last - first + 1)
    return labels, int(numbers[-1]) if len(numbers) else 0


def _touching(
    line: Numbers, first: Numbers, last: Numbers, shape: tuple[int, ...], *, diagonal: bool
) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield pairs of runs of neighbouring lines that touch; a run goes from `first` to `last` of its line."""
    span, grid, reach = shape[-1] + 4, shape[:-1], int(diagonal)
    starts, ends = line * span + first, line * span + last
    places = np.array(np.unravel_index(line, grid))
    for step in product((-1, 0, 1), repeat=len(grid)):
        if step <= (0,) * len(grid) or (not diagonal and sum(map(abs, step)) > 1):
            continue
        there = places + np.array(step)[:, None]
        inside = np.flatnonzero(np.all((there >= 0) & (there < np.array(grid)[:, None]), axis=0))
        target = np.ravel_multi_index(tuple(there[:, inside]), grid) * span
        low = np.searchsorted(ends, target + first[inside] - reach)
        count = np.searchsorted(starts, target + last[inside] + reach, "right") - low
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        yield np.repeat(inside, count), np.repeat(low, count) + within


def _join(parents: Numbers, one: Numbers, other: Numbers) -> Numbers:
    """Return the smallest number in the part of each one, given pairs that belong together."""
    while True:
        roots = parents[one], parents[other]
        joined = parents.copy()
        for root in roots:
            np.minimum.at(joined, root, np.minimum(*roots))
        while not np.array_equal(further := joined[joined], joined):
            joined = further
        if np.array_equal(joined, parents):
            return joined
        parents = joined


def large_pieces(mask: Bools, share: float) -> Bools:
    """Return the pieces of a mask [row, col] that are not below `share` of the largest, their holes filled.

    Their size is the area that the outline through their outermost pixels encloses.
    """
    if cv2 is None:
        pieces, areas = _filled_pieces(mask)
        return np.asarray((areas >= share * areas.max())[pieces] & (pieces > 0))
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    sizes = [cv2.contourArea(outline) for outline in outlines]
    largest = max(sizes, default=0.0)
    large = [line for line, size in zip(outlines, sizes, strict=True) if size >= share * largest]
    filled = np.zeros(mask.shape, np.uint8)
    cv2.drawContours(filled, large, -1, color=1, thickness=cv2.FILLED)
    return filled.astype(np.bool_)


def largest_piece(mask: Bools) -> Bools:
    """Return the largest piece of a mask [row, col], its holes filled; of equal ones the lowest."""
    if cv2 is None:
        pieces, areas = _filled_pieces(mask)
        if len(areas) == 1:
            return np.zeros_like(mask)
        return np.asarray(pieces == len(areas) - 1 - np.argmax(areas[:0:-1]))
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(mask.shape, np.uint8)
    if outlines:
        outline = max(outlines, key=cv2.contourArea)
        cv2.drawContours(filled, [outline], -1, color=1, thickness=cv2.FILLED)
    return filled.astype(np.bool_)


def _filled_pieces(mask: Bools) -> tuple[Labels, NDArray[np.float64]]:
    """Return the number of each pixel's piece, holes filled, and the area in each outline; 0 is outside."""
    outside, _ = label(~np.pad(mask, 1), diagonal=False)
    pieces, number = label((outside != 1)[1:-1, 1:-1])
    corners = np.stack([pieces[:-1, :-1], pieces[1:, :-1], pieces[:-1, 1:], pieces[1:, 1:]])
    # Between four pixels lies a square of the area, between three of them half of it.
    areas = np.array([0, 0, 0, 0.5, 1])[np.count_nonzero(corners, axis=0)]
    return pieces, np.bincount(corners.max(axis=0).ravel(), areas.ravel(), number + 1).astype(np.float64)


def dilate(mask: Bools, reach: int) -> Bools:
    """Return a mask [row, col] grown by `reach` pixels to all sides and corners."""
    for axis in (0, 1):
        grown = mask.copy()
        for step in range(1, min(reach, mask.shape[axis] - 1) + 1):
            there, here = grown.swapaxes(0, axis), mask.swapaxes(0, axis)
            there[step:] |= here[:-step]
            there[:-step] |= here[step:]
        mask = grown
    return mask


def erode(mask: Bools, reach: int) -> Bools:
    """Return a mask [row, col] without what is within `reach` pixels of its edge; the border is no edge."""
    return ~dilate(~mask, reach)


def edge_distance(mask: Bools) -> NDArray[np.float32]:
    """Return the distance of each pixel of a mask [row, col] to the nearest one outside, 0 outside."""
    rows, cols = mask.shape
    distance = np.full((rows + 4, cols + 4), _FAR, np.int64)
    distance[2:-2, 2:-2] = np.where(mask, _FAR, 0)
    along = np.arange(cols) * _STEP
    steps = [(up, right, round(length * _STEP)) for up, right, length in _ABOVE]
    for seen in (distance, distance[::-1, ::-1]):  # from above, then from below
        for row in range(2, rows + 2):
            nearest = seen[row, 2:-2]
            for up, right, length in steps:
                nearest = np.minimum(nearest, seen[row - up, 2 + right : 2 + right + cols] + length)
            seen[row, 2:-2] = np.minimum.accumulate(nearest - along) + along
    return (distance[2:-2, 2:-2] / _STEP).astype(np.float32)


def convex_hull(mask: Bools) -> Bools:
    """Return the convex hull of a mask [row, col] that is not empty, its edge included."""
    rows = np.flatnonzero(mask.any(axis=1))
    left, right = mask[rows].argmax(axis=1), mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    every, places = np.arange(rows[0], rows[-1] + 1), np.arange(mask.shape[1])
    low, high = _chain(rows, left, every), -_chain(rows, -right, every)
    hull = np.zeros_like(mask)
    hull[every] = (places >= np.rint(low)[:, None]) & (places <= np.rint(high)[:, None])
    return hull


def _chain(rows: Numbers, places: Numbers, every: Numbers) -> NDArray[np.float64]:
    """Return the least value in every row of the largest convex function below points (Andrew 1979)."""
    chain: list[tuple[int, int]] = []
    for row, place in zip(rows.tolist(), places.tolist(), strict=True):
        while len(chain) > 1:
            (first, start), (second, middle) = chain[-2:]
            if (middle - start) * (row - first) < (place - start) * (second - first):
                break
            chain.pop()
        chain.append((row, place))
    return np.interp(every, *np.array(chain, np.float64).T)
