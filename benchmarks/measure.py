"""Pairs of measurements, taken alternately so that both meet the same load of the machine."""

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import mean, median
from typing import Any, Literal, TypeVar

K = TypeVar("K", bound=str)
Unit = Literal["s", "ms", "images/s", "Dice"]


@dataclass(frozen=True)
class Aim:
    """The target of a ratio: at least `value`, or at most."""

    sign: Literal[">=", "<=", "<"]
    value: float

    def __str__(self) -> str:
        return f"{self.sign} {self.value:g}"

    def is_met_by(self, ratio: float) -> bool:
        return {
            ">=": ratio >= self.value,
            "<=": ratio <= self.value,
            "<": ratio < self.value,
        }[self.sign]


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        benchmark: the name on the command line.
        what: the comparison, in words.
        unit: of `ours` and `reference`, which are medians (or means, see `middle`).
        meaning: how the ratio is formed.
        ratios: one per round (or differences, one per patient).
        aim: None where the figure is for information.
        middle: the statistic of `ratios` that counts.
    """

    benchmark: str
    what: str
    unit: Unit
    ours: float
    reference: float
    meaning: str
    ratios: tuple[float, ...]
    aim: Aim | None = None
    middle: Literal["median", "mean"] = "median"

    @property
    def ratio(self) -> float:
        return median(self.ratios) if self.middle == "median" else mean(self.ratios)

    @property
    def is_met(self) -> bool | None:
        return None if self.aim is None else self.aim.is_met_by(self.ratio)

    def to_json(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "aim": None if self.aim is None else str(self.aim),
            "ratio": self.ratio,
            "lowest": min(self.ratios),
            "highest": max(self.ratios),
            "met": self.is_met,
        }


def alternate(candidates: Mapping[K, Callable[[], object]], repeats: int) -> dict[K, list[float]]:
    """Return `repeats` seconds of each candidate, measured A B A B; the first round is a warm-up."""
    seconds: dict[K, list[float]] = {name: [] for name in candidates}
    for number in range(repeats + 1):
        for name, function in candidates.items():
            taken = _time(function)
            if number:
                seconds[name].append(taken)
    return seconds


def shorter_is_better(
    benchmark: str, what: str, ours: list[float], reference: list[float], aim: Aim | None = None
) -> Row:
    """Compare seconds: the ratio is our speed in units of the reference's."""
    ratios = tuple(theirs / our for our, theirs in zip(ours, reference, strict=True))
    return Row(benchmark, what, "s", median(ours), median(reference), "reference / ours", ratios, aim)


def throughput(
    benchmark: str,
    what: str,
    num_images: int,
    ours: list[float],
    reference: list[float],
    aim: Aim | None = None,
) -> Row:
    """Compare images per second over rounds of `num_images`: the ratio is ours over the reference's."""
    ratios = tuple(theirs / our for our, theirs in zip(ours, reference, strict=True))
    rates = num_images / median(ours), num_images / median(reference)
    return Row(benchmark, what, "images/s", *rates, "ours / reference", ratios, aim)


def share(
    benchmark: str, what: str, unit: Unit, ours: list[float], reference: list[float], aim: Aim | None = None
) -> Row:
    """Compare costs: the ratio is our time as a share of the reference's."""
    ratios = tuple(our / theirs for our, theirs in zip(ours, reference, strict=True))
    scale = 1000 if unit == "ms" else 1
    return Row(
        benchmark,
        what,
        unit,
        scale * median(ours),
        scale * median(reference),
        "ours / reference",
        ratios,
        aim,
    )


def _time(function: Callable[[], object]) -> float:
    gc.collect()
    started = time.perf_counter()
    function()
    return time.perf_counter() - started
