"""What the evaluation chose, for whoever answers afterwards: the command line and the demo.

`calibration.json` says for which weights its choices were made and how it was asked. For any other
network, or one asked otherwise, they mean nothing: then the configured thresholds stand, and it is said why.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from slicewise.config.schema.asking import Asking
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json
from slicewise.evaluation.calibration import RAW
from slicewise.evaluation.decision import Decision
from slicewise.evaluation.rows import resampled

CALIBRATION_NAME: Final = "calibration.json"
InputKind = Literal["volume", "picture"]
KINDS: Final[tuple[InputKind, ...]] = ("volume", "picture")

_LARGEST: Final = 1e6


@dataclass(frozen=True)
class OperatingPoint:
    """A decision, and on whom it was made, or why nobody was asked.

    Attributes:
        calibrated: whether the probability was calibrated on the validation patients; else it is raw.
        origin: a sentence for people.
    """

    decision: Decision
    calibrated: bool
    origin: str

    def to_json(self) -> dict[str, Any]:
        return {"decision": self.decision.to_json(), "calibrated": self.calibrated, "origin": self.origin}


@dataclass(frozen=True)
class OperatingPoints:
    """One for volumes and one for pictures: they were chosen on different patients."""

    volume: OperatingPoint
    picture: OperatingPoint
    asking: Asking | None
    """How the network was asked when the choices were made; None where none apply."""

    def of(self, kind: InputKind) -> OperatingPoint:
        return self.volume if kind == "volume" else self.picture

    def to_json(self) -> dict[str, Any]:
        return {kind: self.of(kind).to_json() for kind in KINDS}


@dataclass(frozen=True)
class MadeFor:
    """What a `calibration.json` was made for: a network, a way of asking, and the source of a kind."""

    weights: str
    """`Checkpoint.weights_digest`"""
    asking: Asking
    volume: str
    picture: str

    def to_json(self) -> dict[str, Any]:
        return {
            "weights": self.weights,
            "asking": self.asking._asdict(),
            "volume": self.volume,
            "picture": self.picture,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "MadeFor":
        return cls(
            str(content["weights"]), Asking(**content["asking"]), content["volume"], content["picture"]
        )


def unchosen(configured: Decision, why: str) -> OperatingPoints:
    """Return the configured thresholds for everything, and why nothing else."""
    point = OperatingPoint(configured, False, f"configured thresholds: {why}; {RAW}")
    return OperatingPoints(point, point, None)


def read_operating_points(
    path: Path, weights: str, configured: Decision, wishes: Mapping[str, Any] | None = None
) -> OperatingPoints:
    """Return what was chosen for a checkpoint, as far as anything was.

    Args:
        path: the `calibration.json` of the evaluation of the checkpoint; it may be missing.
        weights: `weights_digest` of the checkpoint that answers.
        configured: what stands where nothing was chosen.
        wishes: fields of `Asking` that are settled; the others are as they were when the choices were made.

    Raises:
        WorkspaceError: the file is damaged.
    """
    try:
        content = read_json(path)
    except FileNotFoundError:
        return unchosen(configured, "this network was not evaluated, so nothing was chosen")
    if isinstance(content, dict) and _is_older(content):
        return unchosen(configured, "the evaluation beside it is of an older version; run it again")
    try:
        made_for = MadeFor.from_json(content["made_for"])
        if made_for.weights != weights:
            return unchosen(configured, "the choices beside it were made for another network")
        if made_for.asking != made_for.asking._replace(**(wishes or {})):
            return unchosen(configured, f"the choices were made with {made_for.asking.describe()}")
        volume, picture = (_point(content, kind, getattr(made_for, kind), configured) for kind in KINDS)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WorkspaceError(
            f"{path} is damaged ({error!r}); make it again with "
            "`slicewise run --until evaluate --force evaluate`"
        ) from error
    return OperatingPoints(volume, picture, made_for.asking)


def _is_older(content: Mapping[str, Any]) -> bool:
    """Whether this was written before it was said for which weights it was made."""
    made_for = content.get("made_for", {})
    return isinstance(made_for, dict) and "weights" not in made_for


def _point(content: Mapping[str, Any], kind: InputKind, source: str, configured: Decision) -> OperatingPoint:
    found = content["sources"].get(source)
    if found is None:
        return OperatingPoint(
            configured, False, f"configured thresholds: {source} had no validation cases; {RAW}"
        )
    decision = _decision(found["decision"])
    validation, notes = found["validation"], "; ".join(map(str, found["notes"]))
    number = int(validation["num_patients"])
    who = validation.get("population") or resampled(number, pictures=kind == "picture", subset="validation")
    origin = f"{source}, {who}: {notes}" if notes else f"chosen on {who} of {source}"
    if not decision.calibrated and "gains" not in found:  # of an older version, whose notes do not say it
        origin = f"{origin}; {RAW}"
    return OperatingPoint(decision, decision.calibrated, origin)


def _decision(value: Mapping[str, Any]) -> Decision:
    """Return a decision whose every number can be used: a threshold of 7 would silence the network."""
    decision = Decision.from_json(value)
    shares = (decision.class_threshold, decision.mask_threshold)
    temperature, shift = map(float, decision.scaling)
    scaled = 0 < temperature < _LARGEST and abs(shift) < _LARGEST
    if not scaled or not all(0 <= float(share) <= 1 for share in shares):
        raise ValueError(f"impossible decision {dict(value)}")
    if type(decision.min_component) is not int or decision.min_component < 0:
        raise ValueError(f"impossible decision {dict(value)}")
    return decision
