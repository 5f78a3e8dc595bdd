"""Heat behind the answers of the evaluate step: made for the same pictures by every configured method."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from slicewise.config.schema import Config
from slicewise.pipeline.step import Context

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from slicewise.evaluation.evaluate import EvaluationResult
    from slicewise.evaluation.explanations import Explained
    from slicewise.evaluation.faithfulness import Curves
    from slicewise.evaluation.gradcam_report import HeatSlice
    from slicewise.evaluation.rows import SliceRow
    from slicewise.inference.predictor import Predictor
    from slicewise.models.multitask import MultitaskNet
    from slicewise.steps.slices import SliceLookup

    Floats = NDArray[np.float32]

_SANITY_PICTURES: Final = 8
"""The sanity check makes all heat three times more; it asks about a method, which a few pictures answer."""


@dataclass(frozen=True)
class _Pictures:
    """P slices: images [P, 4, N, N], filled slots [P, 4], brain and reference [P, N, N]."""

    rows: "list[SliceRow]"
    images: "Floats"
    presence: "Floats"
    inside: "NDArray[np.bool_]"
    reference: "NDArray[np.bool_]"

    def first(self, number: int) -> "_Pictures":
        """Return at most so many of them."""
        part = slice(number)
        return _Pictures(
            self.rows[part], self.images[part], self.presence[part], self.inside[part], self.reference[part]
        )


def write_heat(
    context: Context[Config], predictor: "Predictor", lookup: "SliceLookup", result: "EvaluationResult"
) -> dict[str, Any]:
    """Write Grad-CAM, the other methods beside it and their numbers; return the summary."""
    from slicewise.core.files import write_json
    from slicewise.evaluation.explanations import write_explanations
    from slicewise.evaluation.gradcam_report import summarise_heat, write_gradcam

    folder, synthetic = context.out("gradcam"), context.config.data.synthetic
    pictures = _read(context, lookup, result)
    explained = _explain(context, predictor, pictures) if pictures.rows else []
    written = write_gradcam(folder, [one.shown for one in explained], synthetic=synthetic)
    methods = write_explanations(folder, explained, synthetic=synthetic)
    summary = {**summarise_heat(written), "methods": methods}
    write_json(folder / "summary.json", {"synthetic": synthetic, **summary})
    return summary


def _read(context: Context[Config], lookup: "SliceLookup", result: "EvaluationResult") -> _Pictures:
    import numpy as np

    from slicewise.evaluation.gradcam_report import choose_heat_slices

    rows = {row.key: row for row in result.slices}
    answered = [row for row in result.slices if lookup.is_seen(row.key)]
    keys = choose_heat_slices(answered, context.config.evaluation.gradcam_pictures)
    found = [lookup[key] for key in keys]
    images = np.array([images for images, _, _ in found], dtype=np.float32)
    return _Pictures(
        [rows[key] for key in keys],
        images,
        np.array([presence for _, presence, _ in found], dtype=np.float32),
        np.array([(picture != 0).any(axis=0) for picture in images], dtype=bool),
        np.array([mask for _, _, mask in found]) > 0,
    )


def _explain(context: Context[Config], predictor: "Predictor", pictures: _Pictures) -> "list[Explained]":
    from slicewise.core.console import progress
    from slicewise.evaluation.explanations import Explained

    heats = _heats(context.config, predictor.model, pictures)
    likeness = _likeness(context.config, predictor.model, pictures.first(_SANITY_PICTURES), heats)
    explained = []
    for place in progress(range(len(pictures.rows)), desc="explain", unit="picture"):
        own = {name: heat[place] for name, heat in heats.items()}
        curves = _curves(context.config, predictor, pictures, place, own)
        alike = {name: found[place] for name, found in likeness.items() if place in found and own[name].any()}
        explained.append(Explained(_shown(pictures, own["gradcam"], place), own, curves, alike))
    return explained


def _heats(config: Config, model: "MultitaskNet", pictures: _Pictures) -> "dict[str, Floats]":
    from slicewise.inference.gradcam import explain

    images, presence, inside = pictures.images, pictures.presence, pictures.inside
    settings = config.evaluation
    return explain(
        model, images, presence, settings.explanations, inside=inside, batch_size=settings.batch_size
    )


def _likeness(
    config: Config, model: "MultitaskNet", pictures: _Pictures, heats: "Mapping[str, Floats]"
) -> dict[str, dict[int, list[float]]]:
    """Return by method and picture the likeness to the heat of each more forgetful network."""
    from slicewise.evaluation.faithfulness import likeness
    from slicewise.inference.randomised import cascade

    places = range(len(pictures.rows))
    found: dict[str, dict[int, list[float]]] = {name: {place: [] for place in places} for name in heats}
    for _, forgetful in cascade(model, config.seed):
        for name, others in _heats(config, forgetful, pictures).items():
            for place in places:
                alike = likeness(heats[name][place], others[place], pictures.inside[place])
                found[name][place].append(alike)
    return found


def _curves(
    config: Config, predictor: "Predictor", pictures: _Pictures, place: int, heats: "Mapping[str, Floats]"
) -> "dict[str, Curves]":
    """Return nothing for a slice that was not called tumour: there is no evidence to delete."""
    from slicewise.evaluation.explanations import CHANCE
    from slicewise.evaluation.faithfulness import chance, trace

    inside, presence = pictures.inside[place], pictures.presence[place]
    if not pictures.rows[place].predicted:
        return {}

    def classify(images: "Floats") -> "Floats":
        return predictor.predict_slices(images, presence, config.evaluation.batch_size).class_probability

    blobs = chance(inside, seed=place)
    return trace(classify, pictures.images[place], {**heats, CHANCE: blobs}, inside)


def _shown(pictures: _Pictures, heat: "Floats", place: int) -> "HeatSlice":
    from slicewise.evaluation.gallery import grey_image
    from slicewise.evaluation.gradcam_report import HeatSlice

    row = pictures.rows[place]
    reference = pictures.reference[place] if row.reference_pixels is not None else None
    grey = grey_image(pictures.images[place], pictures.presence[place])
    return HeatSlice(row, grey, heat, pictures.inside[place], reference)
