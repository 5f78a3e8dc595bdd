"""The comparison of a checkpoint, in eager fp32, with what was exported from it, each by its own path.

Masks may differ in one pixel of 100,000, and no verdict may differ. Where a probability lies within 1e-5 of
the threshold that decides a verdict, its rounding does: there the checkpoint itself gives either verdict,
depending on the number of threads. Such ties are counted, and are no differences.
"""

import multiprocessing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np

from slicewise.core.console import progress_bar
from slicewise.core.errors import DataError, SliceWiseError
from slicewise.core.parallel import map_cases
from slicewise.data.store import StoredCase
from slicewise.exporting.examples import Example, generate
from slicewise.inference.operating_points import bundled_operating_points
from slicewise.inference.pipeline import Pipeline
from slicewise.inference.postprocess import Postprocessing
from slicewise.inference.prediction import Prediction
from slicewise.inference.prepared_case import PreparedCase
from slicewise.runtime.bundle import machine_kind, read_bundle

MAX_SHARE: Final = 1e-5
"""Of pixels whose mask differs"""
TIE: Final = 1e-5
"""Of a probability to the threshold, and between the two probabilities"""
_COUNTS: Final = (
    "inputs",
    "without_augmentation",
    "refused",
    "pixels",
    "differing_pixels",
    "verdicts",
    "differing_verdicts",
    "ties",
)
_WHOLE: Final = 300
"""So many generated inputs take each pipeline's own path with all its augmentations. Those after them check
the graphs: they are prepared once, and predicted without augmentation"""
_GROUP: Final = 25
_JOBS_PER_WORKER: Final = 6
_WORKER_MIB: Final = 1500
T = TypeVar("T")


class ParityError(SliceWiseError):
    """What was exported predicts something else than the checkpoint."""


@dataclass
class Parity:
    """The differences so far."""

    inputs: int = 0
    without_augmentation: int = 0
    """Inputs that were predicted without the test-time augmentation that the model has"""
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
    worst_pixels: int = 0

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
            if differing > self.worst_pixels and not self.differing_verdicts:
                self.worst_pixels = differing
                self.worst = f"{example.name}: {differing:,} of {expected.masks.size:,} pixels differ"
        pairs = (
            (expected.mask_probability, found.mask_probability),
            (expected.class_probability, found.class_probability),
        )
        for one, other in pairs:
            gap = float(np.abs(one - other).max(initial=0.0))
            self.largest_difference = max(self.largest_difference, gap if np.isfinite(gap) else np.inf)

    def merge(self, other: "Parity") -> None:
        """Add the numbers of other inputs."""
        verdict_here = self.differing_verdicts > 0
        if (other.differing_verdicts and not verdict_here) or (
            not verdict_here and other.worst_pixels > self.worst_pixels
        ):
            self.worst, self.worst_pixels = other.worst, other.worst_pixels
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest_difference = max(self.largest_difference, other.largest_difference)

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
        numbers = {name: getattr(self, name) for name in _COUNTS}
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
        plain = self.without_augmentation
        single = f" ({plain:,} of them without test-time augmentation)" if plain else ""
        inputs = f"{self.inputs:,} inputs{single}"
        return f"{parts} differ on {inputs}{ties}; largest gap {self.largest_difference:.1e}"


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


@dataclass(frozen=True)
class Inputs:
    """What a checkpoint and its exports are compared on."""

    cases: Sequence[StoredCase] = ()
    count: int = 0
    """Generated examples"""

    def split(self) -> "list[Inputs | range]":
        """Return each case alone, and the generated examples in groups of some."""
        groups = [range(first, min(first + _GROUP, self.count)) for first in range(0, self.count, _GROUP)]
        return [*(Inputs((case,)) for case in self.cases), *groups]

    def __len__(self) -> int:
        return len(self.cases) + self.count


def prove(checkpoint: Path, bundle: Path, backends: Sequence[str], inputs: Inputs) -> dict[str, Parity]:
    """Return how far graphs of a bundle differ from the checkpoint, each loaded from its own files.

    Several processes share the inputs, of which each has one thread.
    """
    parities = {name: Parity() for name in backends}
    jobs = inputs.split()
    function = partial(_compare_part, checkpoint, bundle, tuple(backends))
    results = map_cases(
        function,
        jobs,
        name=lambda part: f"inputs {part}",
        num_workers=0,
        memory_mib=_WORKER_MIB,
        jobs_per_worker=_JOBS_PER_WORKER,
    )
    with progress_bar(desc="compare", total=len(jobs), unit="part") as bar:
        for _, found in results:
            for name, parity in parities.items():
                parity.merge(found[name])
            bar.update()
    return parities


def _compare_part(
    checkpoint: Path, bundle: Path, backends: tuple[str, ...], part: Inputs | range
) -> dict[str, Parity]:
    reference, others = _load(checkpoint, bundle, backends)
    if isinstance(part, Inputs):
        cases = [Example(f"test case {case.key.case}", case) for case in part.cases]
        return compare(reference, others, cases)
    preprocessing = reference.checkpoints[0].preprocessing
    examples = generate(
        preprocessing.channels,
        preprocessing.image_size,
        part.stop,
        start=part.start,
        pictures_only=preprocessing.fit == "tile",
    )
    if part.start < _WHOLE:
        return compare(reference, others, examples)
    plain, *single = (each.single_pass(0, each.transforms[0]) for each in (reference, *others.values()))
    parities = compare(plain, dict(zip(others, single, strict=True)), examples, share_preparation=True)
    for parity in parities.values():
        parity.without_augmentation = parity.inputs if len(reference.transforms) > 1 else 0
    return parities


@lru_cache(maxsize=1)
def _load(checkpoint: Path, bundle: Path, backends: tuple[str, ...]) -> tuple[Pipeline, dict[str, Pipeline]]:
    """Return the pipelines of the checkpoint in torch, and of each graph; a worker loads them once."""
    reference = Pipeline.load(checkpoint, backend="torch", device="cpu")
    threads = 0 if multiprocessing.parent_process() is None else 1
    return reference, {name: open_graph(bundle, name, threads) for name in backends}


def open_graph(folder: Path, name: str, num_threads: int = 0) -> Pipeline:
    """Return the pipeline of a graph of a bundle; also of one that needs torch, as TorchScript does."""
    bundle = read_bundle(folder)
    settings = bundle.settings({}).suited_to(bundle.tasks.classification)
    points = bundled_operating_points(bundle.points, Postprocessing.configured(settings), {})
    own: dict[str, Any] = {"inference": points.inference, "points": points, "paths": [folder]}
    return Pipeline([bundle], settings, backend=name, num_threads=num_threads, **own)


def compare(
    reference: Pipeline,
    others: Mapping[str, Pipeline],
    examples: Iterable[Example],
    *,
    share_preparation: bool = False,
) -> dict[str, Parity]:
    """Return how far pipelines differ from one on examples, from the case to the verdict.

    With `share_preparation` they are given the same slices, if their settings of it are the same.
    """
    parities = {name: Parity() for name in others}
    for example in examples:
        prepared = _attempt(lambda: example.prepare(reference))  # noqa: B023  # called at once
        expected = _complete(reference, prepared)
        for name, other in others.items():
            own = prepared
            if not (share_preparation and _prepares_alike(reference, other)):
                own = _attempt(lambda: example.prepare(other))  # noqa: B023
            parities[name].add(example, expected, _complete(other, own))
    return parities


def _prepares_alike(one: Pipeline, other: Pipeline) -> bool:
    first, second = one.checkpoints[0], other.checkpoints[0]
    return (first.preprocessing, first.slot) == (second.preprocessing, second.slot)


def _attempt(function: Callable[[], T]) -> T | str:
    """Return a result, or the text of the error with which a case is refused."""
    try:
        return function()
    except DataError as error:
        return str(error)


def _complete(pipeline: Pipeline, prepared: PreparedCase | str) -> Prediction | str:
    if isinstance(prepared, str):
        return prepared
    return _attempt(lambda: pipeline.complete(prepared, pipeline.infer(prepared.slices)))
