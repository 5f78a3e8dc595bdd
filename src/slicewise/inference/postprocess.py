"""Post-processing: from probabilities to masks and called slices, with one set of thresholds per source."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from slicewise.config.schema import Evaluation
from slicewise.domain.classes import TUMOUR, Classes
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION, TASKS, Task
from slicewise.domain.tables import MOST_PROBABLE
from slicewise.imaging.regions import label
from slicewise.imaging.slicing import pad_missing_slices
from slicewise.inference.calibration import NOT_CALIBRATED, Scaling

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class MaskRule:
    """The mask threshold and the removal of small components for one of several classes.

    The fields are those of `Postprocessing`.
    """

    mask_threshold: float
    min_component: int = 0
    component_share: float = 0.0
    gate: bool = False


@dataclass(frozen=True)
class Postprocessing:
    """Calibration, thresholds and removal of small components."""

    scaling: Scaling
    """Of the logit of a slice"""
    class_threshold: float | None
    """A slice is called tumour when its probability, after the scaling, reaches this; None: the most probable
    of several classes is called"""
    mask_threshold: float
    """A pixel is tumour when its probability reaches this"""
    min_component: int = 0
    """Connected parts of the mask with fewer voxels than this are removed; 0 keeps all"""
    component_share: float = 0.0
    """Parts smaller than this share of the largest one are removed; 0 keeps all"""
    gate: bool = False
    """Whether a slice that is not called tumour gets an empty mask"""
    uncertain_band: float = 0.0
    """Half the width of the band of uncertain probabilities around a class threshold of 0.5; around others it
    is as wide in log odds"""
    by_class: tuple[tuple[str, MaskRule], ...] = ()
    """What holds in place of the four fields on masks for classes that may overlap, where it was selected"""

    @classmethod
    def configured(cls, settings: Evaluation) -> "Postprocessing":
        """Return the configured thresholds."""
        class_threshold, mask_threshold = settings.class_threshold, settings.mask_threshold
        components = settings.min_component, settings.component_share
        band = settings.uncertain_band
        return cls(Scaling(), class_threshold, mask_threshold, *components, uncertain_band=band)

    @property
    def calibrated(self) -> bool:
        """Whether probabilities are scaled."""
        return self.scaling != Scaling()

    def rules(self, classes: Classes) -> list[MaskRule]:
        """Return the rule of each class of a pixel."""
        common = MaskRule(self.mask_threshold, self.min_component, self.component_share, self.gate)
        selected = dict(self.by_class)
        return [selected.get(name, common) for name in classes.names]

    def thresholds(self, classes: Classes) -> NDArray[np.float64]:
        """Return the mask threshold [K] of each class of a pixel."""
        return np.array([rule.mask_threshold for rule in self.rules(classes)])

    def fixed(self, **values: Any) -> "Postprocessing":
        """Return these values of the fields, those of each class included."""
        of_masks = {name: value for name, value in values.items() if name in MaskRule.__dataclass_fields__}
        rules = tuple((name, replace(rule, **of_masks)) for name, rule in self.by_class)
        return replace(self, **values, by_class=rules)

    def probabilities(self, class_probability: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the calibrated probability of each slice."""
        return self.scaling(class_probability)

    def call(self, probabilities: ArrayLike) -> NDArray[np.int64]:
        """Return the number of the called class from calibrated probabilities [S], or [S, C] of C classes."""
        if self.class_threshold is None:
            return np.asarray(np.argmax(probabilities, axis=-1))
        return (np.asarray(probabilities) >= self.class_threshold).astype(np.int64)

    @property
    def uncertain_interval(self) -> tuple[float, float] | None:
        """The probabilities between which the class is uncertain; None with several classes."""
        if self.class_threshold is None:
            return None
        odds = (0.5 + self.uncertain_band) / (0.5 - self.uncertain_band)
        yes, no = self.class_threshold, 1 - self.class_threshold
        return yes / (yes + no * odds), yes * odds / (yes * odds + no)

    def is_uncertain(self, probabilities: ArrayLike) -> NDArray[np.bool_]:
        """Return whether the class is uncertain, from calibrated probabilities [S], or [S, C] of C classes.

        Of several classes: whether the band around 0.5 holds the share of the most probable of the sum of the
        two most probable ones.
        """
        values = np.asarray(probabilities, np.float64)
        if self.uncertain_interval is None:
            second, first = np.moveaxis(np.sort(values, axis=-1)[..., -2:], -1, 0)
            return np.asarray(first < (0.5 + self.uncertain_band) * (first + second))
        low, high = self.uncertain_interval
        return np.asarray((values > low) & (values < high))

    def masks(
        self,
        mask_probability: NDArray[np.floating],
        class_probability: NDArray[np.floating],
        indices: list[int],
        classes: Classes = TUMOUR,
    ) -> Bools:
        """Return the masks of one case from probabilities, both [S, K, N, N]: components per class.

        `indices` say where its slices lie in the volume.
        """
        masks = classes.decide(mask_probability, self.thresholds(classes))
        called = self.call(self.probabilities(class_probability)) > 0
        for place, rule in enumerate(self.rules(classes)):
            masks[:, place] = remove_small_components(
                masks[:, place], indices, rule.min_component, rule.component_share
            )
            if rule.gate:
                masks[:, place] &= called[:, None, None]
        return masks

    def to_json(self) -> dict[str, Any]:
        others = asdict(self)
        del others["scaling"], others["by_class"]
        rules = {name: asdict(rule) for name, rule in self.by_class}
        return {**self.scaling._asdict(), **others, **({"by_class": rules} if rules else {})}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Postprocessing":
        """Return what `to_json` gave; its numbers are not checked."""
        others = dict(content)
        rules = others.pop("by_class", {}).items()
        others["by_class"] = tuple((str(name), MaskRule(**rule)) for name, rule in rules)
        return cls(Scaling(others.pop("temperature"), others.pop("shift", 0.0)), **others)

    def describe(self, tasks: Collection[Task] = TASKS) -> str:
        """Return the thresholds of the tasks as a line of a report."""
        own = _describe_rule(self) if SEGMENTATION in tasks and not self.by_class else []
        several, threshold = self.class_threshold is None, self.class_threshold
        parts = own[:1]
        if CLASSIFICATION in tasks:
            parts = (
                [MOST_PROBABLE] if several else [f"class from {threshold:.3g}", *parts]
            )  # no data has both
            if self.uncertain_interval and self.uncertain_band:
                parts.append("uncertain from {:.3g} to {:.3g}".format(*self.uncertain_interval))
            parts += [f"temperature {self.scaling.temperature:.3g}" if self.calibrated else NOT_CALIBRATED]
            parts += [f"logits moved by {self.scaling.shift:+.3g}"] if self.scaling.shift else []
        rules = [
            f"{name.replace('_', ' ')}: {', '.join(_describe_rule(rule))}" for name, rule in self.by_class
        ]
        return "; ".join([", ".join([*parts, *own[1:]]), *rules])


def _describe_rule(rule: MaskRule | Postprocessing) -> list[str]:
    chosen = rule.mask_threshold is not None  # in metrics.json, where classes exclude each other
    parts = [f"mask from {rule.mask_threshold:.3g}" if chosen else "most probable class of each pixel"]
    parts += [f"parts from {rule.min_component} voxels"] if rule.min_component else []
    parts += [f"parts from {rule.component_share:.0%} of the largest"] if rule.component_share else []
    return parts + (["masks in tumour slices only"] if rule.gate else [])


class Components(NamedTuple):
    """Connected parts of a mask: the number of each voxel's part [S, N, N], 0 outside, and their sizes."""

    labels: NDArray[np.int32]
    sizes: NDArray[np.int64]


def smooth_slices(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Return probabilities [S, ...] after a Gaussian filter across slices.

    It reaches four standard deviations far, in double precision; the first and the last slice continue. These
    are the bits of `scipy.ndimage.gaussian_filter1d`, which takes longer to be imported than a picture to be
    predicted.
    """
    reach, last = int(4 * sigma + 0.5), len(values) - 1
    if not last:
        return values
    weights = np.exp(-0.5 / (sigma * sigma) * np.arange(-reach, reach + 1) ** 2)
    weights /= weights.sum()
    doubles, places = values.astype(np.float64), np.arange(len(values))
    smooth = doubles * weights[reach]
    for step in range(reach, 0, -1):
        both = doubles[(places - step).clip(0)] + doubles[(places + step).clip(None, last)]
        smooth += both * weights[reach - step]
    return np.asarray(smooth, np.float32)


def find_components(masks: Bools, indices: list[int]) -> Components:
    """Return the connected parts of a volume (26 neighbours), given its slices and their places in it."""
    labels, number = label(pad_missing_slices(masks, indices))
    sizes = np.bincount(labels.ravel(), minlength=number + 1)
    sizes[0] = 0
    return Components(labels[np.asarray(indices) - min(indices)], sizes)


def filter_components(parts: Components, min_component: int, component_share: float) -> Bools:
    """Return the mask without small components."""
    large = parts.sizes >= max(min_component, 1, component_share * parts.sizes.max())
    filtered: Bools = large[parts.labels]
    return filtered


def component_sizes(mask: Bools) -> list[int]:
    """Return the voxels of each connected part of a mask [slice, row, col] (26 neighbours), largest first."""
    if not mask.any():
        return []
    occupied = (np.flatnonzero(mask.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    box = tuple(slice(places[0], places[-1] + 1) for places in occupied)
    sizes = find_components(mask[box], [*range(len(mask[box]))]).sizes[1:]
    return sorted(sizes.tolist(), reverse=True)


def remove_small_components(
    masks: Bools, indices: list[int], min_component: int, component_share: float
) -> Bools:
    """Return the masks without components that are small, or small beside the largest one."""
    if not (min_component or component_share) or not masks.any():
        return masks
    return filter_components(find_components(masks, indices), min_component, component_share)


def whole_case(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the probability of a whole case from those of its slices: of tumour, or [C] of C classes.

    Of several classes it is the mean over the slices [S, C].
    """
    if probabilities.ndim > 1:
        return np.asarray(probabilities.sum(axis=0) / max(1, len(probabilities)), np.float64)
    return np.array(tumour_probability(probabilities))


def tumour_probability(class_probability: NDArray[np.floating]) -> float:
    """Return a volume's probability: the highest of its slices after a running mean over three.

    A tumour spans neighbouring slices; a single slice that stands out is more often an artefact. One slice
    alone keeps its own probability; without slices it is 0.
    """
    if len(class_probability) == 0:
        return 0.0
    padded = np.pad(class_probability.astype(np.float64), 1, mode="edge")
    return float(np.convolve(padded, np.full(3, 1 / 3), mode="valid").max())
