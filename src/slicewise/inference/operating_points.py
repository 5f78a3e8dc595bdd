"""Operating points: the calibration and thresholds that the evaluation selected, read from calibration.json.

They hold for the weights and the inference settings that they were selected with. For any others the
configured thresholds are used, and `origin` says why.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

from slicewise.config.schema.evaluation import MAX_BAND, InferenceSettings
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json
from slicewise.domain.tables import describe_groups
from slicewise.inference.calibration import NOT_CALIBRATED
from slicewise.inference.postprocess import MaskRule, Postprocessing

CALIBRATION_NAME: Final = "calibration.json"
InputKind = Literal["volume", "picture"]
INPUT_KINDS: Final[tuple[InputKind, ...]] = ("volume", "picture")

_THRESHOLDS: Final = (
    "class_threshold",
    "mask_threshold",
    "min_component",
    "component_share",
    "uncertain_band",
)
_LARGEST: Final = 1e6


@dataclass(frozen=True)
class OperatingPoint:
    """Thresholds, and a sentence on the data that they were selected on, or why none were."""

    postprocessing: Postprocessing
    origin: str

    @property
    def calibrated(self) -> bool:
        """Whether the probability was calibrated on the validation patients; else it is raw."""
        return self.postprocessing.calibrated

    def to_json(self) -> dict[str, Any]:
        decision = self.postprocessing.to_json()
        return {"decision": decision, "calibrated": self.calibrated, "origin": self.origin}


@dataclass(frozen=True)
class OperatingPoints:
    """One for volumes and one for pictures: they were selected on different patients."""

    volume: OperatingPoint
    picture: OperatingPoint
    inference: InferenceSettings | None
    """The settings of the selection; None where no selection applies"""

    def of(self, kind: InputKind) -> OperatingPoint:
        return self.volume if kind == "volume" else self.picture

    def to_json(self) -> dict[str, Any]:
        return {kind: self.of(kind).to_json() for kind in INPUT_KINDS}

    def to_bundle(self) -> dict[str, Any]:
        """Return what `bundled_operating_points` reads."""
        inference = None if self.inference is None else self.inference._asdict()
        return {"inference": inference, **self.to_json()}


@dataclass(frozen=True)
class OperatingConditions:
    """What a `calibration.json` holds for: weights, inference settings, and the source of each input kind."""

    weights: str
    """`Checkpoint.weights_digest`"""
    inference: InferenceSettings
    volume: str
    picture: str

    def to_json(self) -> dict[str, Any]:
        sources = {"volume": self.volume, "picture": self.picture}
        return {"weights": self.weights, "asking": self.inference._asdict(), **sources}


def default_operating_points(configured: Postprocessing, why: str) -> OperatingPoints:
    """Return the configured thresholds for volumes and pictures; `why` says why no others apply."""
    point = OperatingPoint(configured, f"configured thresholds: {why}; {NOT_CALIBRATED}")
    return OperatingPoints(point, point, None)


def find_operating_points(
    checkpoint: Path, weights: str, configured: Postprocessing, overrides: Mapping[str, Any]
) -> OperatingPoints:
    """Return the operating points that were selected for a checkpoint, else the configured thresholds.

    They are those of `calibration.json` beside the checkpoint, or else in the results of the workspace that
    the checkpoint lies in. They hold for its `weights` (a `weights_digest`). Keys of the section `evaluation`
    in `overrides` are fixed: thresholds replace those selected; with other settings of inference than in the
    selection, none of it applies.

    Raises:
        WorkspaceError: the file is damaged.
    """
    path = find_calibration(checkpoint)
    if path is None:
        points = default_operating_points(configured, "this model was not evaluated, so nothing was chosen")
    else:
        points = _read(path, weights, configured, overrides)
    return _fix(points, overrides)


def _fix(points: OperatingPoints, overrides: Mapping[str, Any]) -> OperatingPoints:
    """Return operating points with given thresholds in place of those selected."""
    thresholds = {key: overrides[key] for key in _THRESHOLDS if key in overrides}
    if not thresholds:
        return points
    given = ", ".join(f"{name}={value:g}" for name, value in thresholds.items())
    volume, picture = (
        OperatingPoint(point.postprocessing.fixed(**thresholds), f"{given} as given; {point.origin}")
        for point in (points.volume, points.picture)
    )
    return replace(points, volume=volume, picture=picture)


def bundled_operating_points(
    content: Mapping[str, Any], configured: Postprocessing, overrides: Mapping[str, Any]
) -> OperatingPoints:
    """Return the operating points of a bundle, from their `to_json`; `overrides` as in the other function.

    Raises:
        KeyError, TypeError, ValueError: they are damaged.
    """
    inference = None if content["inference"] is None else InferenceSettings(**content["inference"])
    fixed = {key: value for key, value in overrides.items() if key in InferenceSettings._fields}
    if inference is not None and inference != inference._replace(**fixed):
        return _fix(
            default_operating_points(configured, f"the thresholds were chosen with {inference.describe()}"),
            overrides,
        )
    points = {}
    for kind in INPUT_KINDS:
        postprocessing = Postprocessing.from_json(content[kind]["decision"])
        _require_valid(postprocessing)
        points[kind] = OperatingPoint(postprocessing, str(content[kind]["origin"]))
    return _fix(OperatingPoints(points["volume"], points["picture"], inference), overrides)


def find_calibration(checkpoint: Path) -> Path | None:
    """Return the `calibration.json` beside a checkpoint, or else in the workspace that it lies in."""
    if checkpoint.is_dir():  # of Hugging Face: the files lie in it
        checkpoint = checkpoint / CALIBRATION_NAME
    above = checkpoint.absolute().parents
    results = above[min(2, len(above) - 1)] / "results"
    paths = [checkpoint.with_name(CALIBRATION_NAME), *sorted(results.glob(f"*/{CALIBRATION_NAME}"))]
    return next((path for path in paths if path.is_file()), None)


def _read(
    path: Path, weights: str, configured: Postprocessing, overrides: Mapping[str, Any]
) -> OperatingPoints:
    content = read_json(path)
    fixed = {key: value for key, value in overrides.items() if key in InferenceSettings._fields}
    try:
        conditions = content.get("made_for", {})
        if isinstance(conditions, dict) and "weights" not in conditions:
            why = "the evaluation beside it is of an older version; run it again"
            return default_operating_points(configured, why)
        inference = InferenceSettings(**conditions["asking"])
        sources, why = (conditions["volume"], conditions["picture"]), ""
        if str(conditions["weights"]) != weights:
            why = "the thresholds beside it were chosen for another model"
        elif inference != inference._replace(**fixed):
            why = f"the thresholds were chosen with {inference.describe()}"
        if why:
            return default_operating_points(configured, why)
        volume, picture = (
            _point(content["sources"].get(source), kind, source, configured)
            for kind, source in zip(INPUT_KINDS, sources, strict=True)
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WorkspaceError(
            f"{path} is damaged ({error!r}); write it again with "
            "`slicewise run --until evaluate --force evaluate`"
        ) from error
    return OperatingPoints(volume, picture, inference)


def _point(
    entry: Mapping[str, Any] | None, kind: InputKind, source: str, configured: Postprocessing
) -> OperatingPoint:
    if entry is None:
        origin = f"configured thresholds: {source} had no validation cases; {NOT_CALIBRATED}"
        return OperatingPoint(configured, origin)
    postprocessing = Postprocessing.from_json(entry["decision"])
    _require_valid(postprocessing)
    validation, notes = entry["validation"], "; ".join(map(str, entry["notes"]))
    number = int(validation["num_patients"])
    population = validation.get("population") or describe_groups(
        number, pictures=kind == "picture", subset="validation"
    )
    named = source if notes.startswith(str(population)) else f"{source}, {population}"
    origin = f"{named}: {notes}" if notes else f"chosen on {population} of {source}"
    if not postprocessing.calibrated and "gains" not in entry:  # notes of an older version do not say it
        origin = f"{origin}; {NOT_CALIBRATED}"
    return OperatingPoint(postprocessing, origin)


def _require_valid(postprocessing: Postprocessing) -> None:
    """Refuse numbers that cannot be used: with a threshold of 7, say, nothing would be called tumour."""
    rules: list[Postprocessing | MaskRule] = [postprocessing, *(rule for _, rule in postprocessing.by_class)]
    shares = [postprocessing.class_threshold or 0.0, *(rule.mask_threshold for rule in rules)]
    temperature, shift = map(float, postprocessing.scaling)
    scaled = 0 < temperature < _LARGEST and abs(shift) < _LARGEST
    whole = all(type(rule.min_component) is int and rule.min_component >= 0 for rule in rules)
    banded = 0 <= postprocessing.uncertain_band < MAX_BAND
    if not (scaled and whole and banded and all(0 <= float(share) <= 1 for share in shares)):
        raise ValueError(f"impossible values {postprocessing}")
