"""Whether a smaller model may take the place of another: faster, at a loss that was allowed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from slicewise.core.errors import SliceWiseError
from slicewise.domain.tables import ComparisonRow
from slicewise.workflow.benchmark import LABELS, Timing


class RefusedError(SliceWiseError):
    """A smaller model is no faster, or loses more than was allowed."""


@dataclass(frozen=True)
class Limits:
    """What may be lost, in the mean over the validation patients, and whether speed counts."""

    dice: float = 0.003
    auc: float = 0.003
    must_be_faster: bool = True
    """False: it is meant for another machine, whose speed cannot be measured here"""

    def of(self, score: str) -> float:
        """Return the limit of a score."""
        return self.auc if score == "roc_auc" else self.dice


_NO_INTERVAL: Final = "no interval"
_FASTER: Final = 1.05
"""Smaller gains could be noise"""
_NOT_FASTER: Final = "it is not faster"


class Speed(NamedTuple):
    """Of a slice, in the model that would be replaced and in the smaller one, measured alternately."""

    before: Timing
    after: Timing
    ratio: float
    """Of the smallest times, to which other programs add least; above 1 where the smaller one is faster"""

    @property
    def is_faster(self) -> bool:
        return self.ratio >= _FASTER

    def __str__(self) -> str:
        return f"ms a slice: {self.before} before, {self.after} after, {self.ratio:.2f} × as fast"

    def require(self, name: str) -> None:
        """Raise RefusedError where a model that is not trained yet is no faster."""
        if not self.is_faster:
            raise RefusedError(
                f"{name} was refused and not trained: {_NOT_FASTER}. {self}. Prune more or name a smaller "
                "encoder; --for-another-machine leaves the speed out"
            )


@dataclass(frozen=True)
class Judgement:
    """The smaller model beside the other one, on the same patients."""

    name: str
    speed: Speed
    differences: tuple[ComparisonRow, ...]
    """Of Dice and AUC, by source: the smaller one minus the other"""
    limits: Limits
    opponent: str = "the original"

    @property
    def objections(self) -> list[str]:
        """What speaks against it; empty where it is accepted."""
        found = [_NOT_FASTER] if self.limits.must_be_faster and not self.speed.is_faster else []
        for row in self.differences:
            limit = self.limits.of(row.score)
            if row.value is not None and -row.value > limit:
                found.append(f"it loses more than {limit:g} {LABELS[row.score]} on {row.source}")
        if not any(row.value is not None for row in self.differences):
            found.append("its loss could not be measured")
        return found

    def figures(self) -> list[str]:
        """Return speed and losses as lines."""
        lines = [str(self.speed)]
        for row in self.differences:
            interval = row.interval_text if row.low is not None else _NO_INTERVAL
            units = f"{row.num_patients} patients or families"
            lines.append(f"{LABELS[row.score]} on {row.source}: {row.value_text} ({interval}; {units})")
        return lines

    def require(self) -> None:
        """Raise RefusedError with the figures, where something speaks against it."""
        if self.objections:
            figures = "; ".join(self.figures())
            raise RefusedError(
                f"{self.name} was refused and not written: {'; '.join(self.objections)}. Against "
                f"{self.opponent}, on validation patients: {figures}. Allow more with --max-loss DICE AUC, "
                "or keep the model as it is"
                + ("; --for-another-machine leaves the speed out" if _NOT_FASTER in self.objections else "")
            )

    def to_json(self) -> dict[str, Any]:
        return {
            "accepted": not self.objections,
            "limits": asdict(self.limits),
            "against": self.opponent,
            "milliseconds_before": self.speed.before._asdict(),
            "milliseconds": self.speed.after.median,
            "milliseconds_after": self.speed.after._asdict(),
            "speed": self.speed.ratio,
            "patients": "validation",
            "differences": [asdict(row) for row in self.differences],
        }


def differences(rows: Sequence[ComparisonRow]) -> tuple[ComparisonRow, ...]:
    """Return the paired differences among the rows of a comparison."""
    return tuple(row for row in rows if row.minus)
