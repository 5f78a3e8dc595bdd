"""What the evaluation chose, for whoever answers afterwards: the command line and the demo.

`calibration.json` says for which weights its choices were made and how it was asked. For any other
network, or one asked otherwise, they mean nothing: then the configured thresholds stand, and it is said why.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from slicewise.config.schema.inference import InferenceSettings
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json
from slicewise.domain.tables import describe_groups
from slicewise.inference.calibration import NOT_CALIBRATED
from slicewise.inference.postprocess import Postprocessing

CALIBRATION_NAME: Final = "calibration.json"
InputKind = Literal["volume", "picture"]
INPUT_KINDS: Final[tuple[InputKind, ...]] = ("volume", "picture")

_LARGEST: Final = 1e6


@dataclass(frozen=True)
class OperatingPoint:
    """A decision, and on whom it was made, or why nobody was asked.

    Attributes:
        calibrated: whether the probability was calibrated on the validation patients; else it is raw.
        origin: a sentence for people.
    """

    postprocessing: Postprocessing
    calibrated: bool
    origin: str

    def to_json(self) -> dict[str, Any]:
        return {
            "decision": self.postprocessing.to_json(),
            "calibrated": self.calibrated,
            "origin": self.origin,
        }


@dataclass(frozen=True)
class OperatingPoints:
    """One for volumes and one for pictures: they were chosen on different patients."""

    volume: OperatingPoint
    picture: OperatingPoint
    inference: InferenceSettings | None
    """How the network was asked when the choices were made; None where none apply."""

    def of(self, kind: InputKind) -> OperatingPoint:
        return self.volume if kind == "volume" else self.picture

    def to_json(self) -> dict[str, Any]:
        return {kind: self.of(kind).to_json() for kind in INPUT_KINDS}


@dataclass(frozen=True)
class OperatingConditions:
    """What a `calibration.json` was made for: a network, a way of asking, and the source of a kind."""

    weights: str
    """`Checkpoint.weights_digest`"""
    inference: InferenceSettings
    volume: str
    picture: str

    def to_json(self) -> dict[str, Any]:
        return {
            "weights": self.weights,
            "asking": self.inference._asdict(),
            "volume": self.volume,
            "picture": self.picture,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "OperatingConditions":
        return cls(
            str(content["weights"]),
            InferenceSettings(**content["asking"]),
            content["volume"],
            content["picture"],
        )


def default_operating_points(configured: Postprocessing, why: str) -> OperatingPoints:
    """Return the configured thresholds for everything, and why nothing else."""
    point = OperatingPoint(configured, False, f"configured thresholds: {why}; {NOT_CALIBRATED}")
    return OperatingPoints(point, point, None)


def read_operating_points(
    path: Path, weights: str, configured: Postprocessing, overrides: Mapping[str, Any] | None = None
) -> OperatingPoints:
    """Return what was chosen for a checkpoint, as far as anything was.

    Args:
        path: the `calibration.json` of the evaluation of the checkpoint; it may be missing.
        weights: `weights_digest` of the checkpoint that answers.
        configured: what stands where nothing was chosen.
        overrides: fields of `InferenceSettings` that are fixed; the others are as in the threshold selection.

    Raises:
        WorkspaceError: the file is damaged.
    """
    try:
        content = read_json(path)
    except FileNotFoundError:
        return default_operating_points(configured, "this network was not evaluated, so nothing was chosen")
    if isinstance(content, dict) and _lacks_weights(content):
        return default_operating_points(
            configured, "the evaluation beside it is of an older version; run it again"
        )
    try:
        conditions = OperatingConditions.from_json(content["made_for"])
        if conditions.weights != weights:
            return default_operating_points(configured, "the choices beside it were made for another network")
        if conditions.inference != conditions.inference._replace(**(overrides or {})):
            return default_operating_points(
                configured, f"the choices were made with {conditions.inference.describe()}"
            )
        volume, picture = (
            _point(content, kind, getattr(conditions, kind), configured) for kind in INPUT_KINDS
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WorkspaceError(
            f"{path} is damaged ({error!r}); make it again with "
            "`slicewise run --until evaluate --force evaluate`"
        ) from error
    return OperatingPoints(volume, picture, conditions.inference)


def _lacks_weights(content: Mapping[str, Any]) -> bool:
    """Whether this was written before it was said for which weights it was made."""
    conditions = content.get("made_for", {})
    return isinstance(conditions, dict) and "weights" not in conditions


def _point(
    content: Mapping[str, Any], kind: InputKind, source: str, configured: Postprocessing
) -> OperatingPoint:
    entry = content["sources"].get(source)
    if entry is None:
        return OperatingPoint(
            configured, False, f"configured thresholds: {source} had no validation cases; {NOT_CALIBRATED}"
        )
    postprocessing = _parse_postprocessing(entry["decision"])
    validation, notes = entry["validation"], "; ".join(map(str, entry["notes"]))
    number = int(validation["num_patients"])
    population = validation.get("population") or describe_groups(
        number, pictures=kind == "picture", subset="validation"
    )
    origin = f"{source}, {population}: {notes}" if notes else f"chosen on {population} of {source}"
    if (
        not postprocessing.calibrated and "gains" not in entry
    ):  # of an older version, whose notes do not say it
        origin = f"{origin}; {NOT_CALIBRATED}"
    return OperatingPoint(postprocessing, postprocessing.calibrated, origin)


def _parse_postprocessing(value: Mapping[str, Any]) -> Postprocessing:
    """Return a decision whose every number can be used: a threshold of 7 would silence the network."""
    postprocessing = Postprocessing.from_json(value)
    shares = (postprocessing.class_threshold, postprocessing.mask_threshold)
    temperature, shift = map(float, postprocessing.scaling)
    scaled = 0 < temperature < _LARGEST and abs(shift) < _LARGEST
    if not scaled or not all(0 <= float(share) <= 1 for share in shares):
        raise ValueError(f"impossible decision {dict(value)}")
    if type(postprocessing.min_component) is not int or postprocessing.min_component < 0:
        raise ValueError(f"impossible decision {dict(value)}")
    return postprocessing
