"""The comparison of a checkpoint, in eager fp32, with what was exported from it, each by its own path.

Masks may differ in one pixel of 100,000, and no verdict may differ. Where a probability lies within 1e-5 of
the threshold that decides a verdict, its rounding does: there the checkpoint itself gives either verdict,
depending on the number of threads. Such ties are counted, and are no differences.
"""

import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from slicewise.core.errors import DataError, SliceWiseError
from slicewise.exporting.examples import Example
from slicewise.inference.pipeline import Pipeline
from slicewise.inference.prediction import Prediction
from slicewise.runtime.bundle import machine_kind

MAX_SHARE: Final = 1e-5
"""Of pixels whose mask differs"""
TIE: Final = 1e-5
"""Of a probability to the threshold, and between the two probabilities"""
_REPEATS: Final = 15


class ParityError(SliceWiseError):
    """What was exported predicts something else than the checkpoint."""


@dataclass
class Parity:
    """The differences so far."""

    inputs: int = 0
    refused: int = 0
    """Inputs that both refuse, with the same words"""
    pixels: int = 0
    differing_pixels: int = 0
    verdicts: int = 0
    differing_verdicts: int = 0
    ties: int = 0
    largest_difference: float = 0.0
    """Of two probabilities of a pixel or a slice"""
    worst: str = ""
    """The first input with another verdict, else that with the most differing pixels"""
    _worst_pixels: int = 0

    @property
    def share(self) -> float:
        """The share of pixels whose mask differs."""
        return self.differing_pixels / max(1, self.pixels)

    @property
    def passed(self) -> bool:
        return self.share <= MAX_SHARE and not self.differing_verdicts

    def add(self, example: Example, expected: Prediction | str, found: Prediction | str) -> None:
        """Count one input; a text is the error of one that is refused."""
        self.inputs += 1
        if isinstance(expected, str) or isinstance(found, str):
            self.refused += 1
            if expected != found:
                words = [each if isinstance(each, str) else each.verdict for each in (expected, found)]
                self._add_verdict(example, f"the checkpoint says {words[0]}, the export {words[1]}")
            return
        if expected.verdict is not None:
            self.verdicts += 1
            if expected.verdict != found.verdict:
                self._compare_verdicts(example, expected, found)
        if expected.masks is not None and found.masks is not None:
            differing = int(np.count_nonzero(expected.masks != found.masks))
            self.pixels += expected.masks.size
            self.differing_pixels += differing
            if differing > self._worst_pixels and not self.differing_verdicts:
                self._worst_pixels = differing
                self.worst = f"{example.name}: {differing:,} of {expected.masks.size:,} pixels differ"
        pairs = (
            (expected.mask_probability, found.mask_probability),
            (expected.class_probability, found.class_probability),
        )
        for one, other in pairs:
            gap = float(np.abs(one - other).max(initial=0.0))
            self.largest_difference = max(self.largest_difference, gap if np.isfinite(gap) else np.inf)

    def _compare_verdicts(self, example: Example, expected: Prediction, found: Prediction) -> None:
        if _is_tie(expected, found):
            self.ties += 1
            return
        words = f"the verdict is {found.verdict} and not {expected.verdict}"
        self._add_verdict(example, f"{words} ({found.whole} and {expected.whole})")

    def _add_verdict(self, example: Example, words: str) -> None:
        self.worst = self.worst if self.differing_verdicts else f"{example.name}: {words}"
        self.differing_verdicts += 1

    def to_json(self) -> dict[str, Any]:
        """Return the numbers, with the kind of this machine."""
        names = ("inputs", "refused", "pixels", "differing_pixels", "verdicts", "differing_verdicts", "ties")
        numbers = {name: getattr(self, name) for name in names}
        return {
            "passed": self.passed,
            "machine": machine_kind(),
            **numbers,
            "largest_difference": self.largest_difference,
        }

    def describe(self) -> str:
        """Return the numbers as a line."""
        verdicts = f"{self.differing_verdicts} of {self.verdicts:,} verdicts" if self.verdicts else ""
        pixels = f"{self.differing_pixels:,} of {self.pixels:,} pixels" if self.pixels else ""
        ties = f", {self.ties} ties" if self.ties else ""
        parts = " and ".join(filter(None, (pixels, verdicts)))
        return f"{parts} differ on {self.inputs:,} inputs{ties}; largest gap {self.largest_difference:.1e}"


def _is_tie(expected: Prediction, found: Prediction) -> bool:
    """Return whether both verdicts are within rounding of a threshold."""
    one, other = expected.whole, found.whole
    if one is None or other is None or float(np.abs(one - other).max()) > TIE:
        return False
    post = expected.point.postprocessing
    if post.class_threshold is not None:
        limits = (post.class_threshold, *(post.uncertain_interval or ()))
        return bool(min(abs(float(one) - limit) for limit in limits) <= TIE)
    second, first = np.sort(one)[-2:]
    border = (0.5 + post.uncertain_band) * (first + second)
    return bool(first - second <= TIE or abs(first - border) <= TIE)


def compare(reference: Pipeline, exported: Pipeline, examples: Iterable[Example]) -> Parity:
    """Return how far two pipelines differ on examples."""
    parity = Parity()
    for example in examples:
        parity.add(example, _predict(example, reference), _predict(example, exported))
    return parity


def _predict(example: Example, pipeline: Pipeline) -> Prediction | str:
    try:
        return example.predict(pipeline)
    except DataError as error:
        return str(error)


def measure(pipelines: list[Pipeline]) -> list[float]:
    """Return the median milliseconds of a prepared slice in each pipeline, measured alternately."""
    first = pipelines[0].checkpoints[0].preprocessing
    shape = (1, len(first.channels), first.image_size, first.image_size)
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    presence = np.ones(shape[1], np.float32)
    seconds: list[list[float]] = [[] for _ in pipelines]
    for _ in range(_REPEATS + 1):
        for pipeline, times in zip(pipelines, seconds, strict=True):
            started = time.perf_counter()
            pipeline.predict_slices(image, presence)
            times.append(time.perf_counter() - started)
    return [1000 * statistics.median(times[1:]) for times in seconds]
