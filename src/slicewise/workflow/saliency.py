"""Heat behind the answers of the evaluate step: made for the same pictures by every configured method."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from slicewise.config.schema import Config
from slicewise.engine.step import Context

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from slicewise.domain.tables import SliceRow
    from slicewise.evaluation.evaluate import EvaluationResult
    from slicewise.explain.explanation import SaliencySlice, SliceExplanation
    from slicewise.explain.faithfulness import Curves
    from slicewise.inference.predictor import Predictor
    from slicewise.models.multitask import MultitaskModel
    from slicewise.workflow.slices import SliceLookup

    Floats = NDArray[np.float32]

_SANITY_SLICES: Final = 8
"""The sanity check makes all heat three times more; it asks about a method, which a few pictures answer."""


@dataclass(frozen=True)
class _SliceSample:
    """P slices: images [P, 4, N, N], filled slots [P, 4], brain and reference [P, N, N]."""

    rows: "list[SliceRow]"
    images: "Floats"
    presence: "Floats"
    inside: "NDArray[np.bool_]"
    reference: "NDArray[np.bool_]"

    def first(self, number: int) -> "_SliceSample":
        """Return at most so many of them."""
        selected = slice(number)
        return _SliceSample(
            self.rows[selected],
            self.images[selected],
            self.presence[selected],
            self.inside[selected],
            self.reference[selected],
        )


def write_saliency(
    context: Context[Config], predictor: "Predictor", lookup: "SliceLookup", result: "EvaluationResult"
) -> dict[str, Any]:
    """Write Grad-CAM, the other methods beside it and their numbers; return the summary."""
    from slicewise.core.files import write_json
    from slicewise.explain.localization import summarise_saliency, write_gradcam
    from slicewise.explain.report import write_explanations

    folder, synthetic = context.out("gradcam"), context.config.data.synthetic
    slice_sample = _select_slices(context, lookup, result)
    explained = _explain(context, predictor, slice_sample) if slice_sample.rows else []
    written = write_gradcam(folder, [explanation.sample for explanation in explained], synthetic=synthetic)
    methods = write_explanations(folder, explained, synthetic=synthetic)
    summary = {**summarise_saliency(written), "methods": methods}
    write_json(folder / "summary.json", {"synthetic": synthetic, **summary})
    return summary


def _select_slices(
    context: Context[Config], lookup: "SliceLookup", result: "EvaluationResult"
) -> _SliceSample:
    import numpy as np

    from slicewise.explain.localization import select_saliency_slices

    rows = {row.key: row for row in result.slices}
    included = [row for row in result.slices if lookup.is_included(row.key)]
    keys = select_saliency_slices(included, context.config.evaluation.gradcam_pictures)
    found = [lookup[key] for key in keys]
    images = np.array([images for images, _, _ in found], dtype=np.float32)
    return _SliceSample(
        [rows[key] for key in keys],
        images,
        np.array([presence for _, presence, _ in found], dtype=np.float32),
        np.array([(image_slice != 0).any(axis=0) for image_slice in images], dtype=bool),
        np.array([mask for _, _, mask in found]) > 0,
    )


def _explain(
    context: Context[Config], predictor: "Predictor", slice_sample: _SliceSample
) -> "list[SliceExplanation]":
    from slicewise.core.console import progress
    from slicewise.explain.explanation import SliceExplanation

    saliency_maps = _saliency_maps(context.config, predictor.model, slice_sample)
    rank_correlation = _rank_correlations(
        context.config, predictor.model, slice_sample.first(_SANITY_SLICES), saliency_maps
    )
    explained = []
    for position in progress(range(len(slice_sample.rows)), desc="explain", unit="picture"):
        slice_maps = {name: saliency[position] for name, saliency in saliency_maps.items()}
        curves = _curves(context.config, predictor, slice_sample, position, slice_maps)
        correlation = {
            name: found[position]
            for name, found in rank_correlation.items()
            if position in found and slice_maps[name].any()
        }
        explained.append(
            SliceExplanation(
                _sample(slice_sample, slice_maps["gradcam"], position), slice_maps, curves, correlation
            )
        )
    return explained


def _saliency_maps(
    config: Config, model: "MultitaskModel", slice_sample: _SliceSample
) -> "dict[str, Floats]":
    from slicewise.explain.cam import compute_saliency

    images, presence, inside = slice_sample.images, slice_sample.presence, slice_sample.inside
    settings = config.evaluation
    return compute_saliency(
        model, images, presence, settings.explanations, inside=inside, batch_size=settings.batch_size
    )


def _rank_correlations(
    config: Config, model: "MultitaskModel", slice_sample: _SliceSample, saliency_maps: "Mapping[str, Floats]"
) -> dict[str, dict[int, list[float]]]:
    """Return by method and picture the likeness to the heat of each more forgetful network."""
    from slicewise.explain.randomization import randomize_cascade, rank_correlation

    positions = range(len(slice_sample.rows))
    found: dict[str, dict[int, list[float]]] = {
        name: {position: [] for position in positions} for name in saliency_maps
    }
    for _, randomized in randomize_cascade(model, config.seed):
        for name, randomized_maps in _saliency_maps(config, randomized, slice_sample).items():
            for position in positions:
                correlation = rank_correlation(
                    saliency_maps[name][position], randomized_maps[position], slice_sample.inside[position]
                )
                found[name][position].append(correlation)
    return found


def _curves(
    config: Config,
    predictor: "Predictor",
    slice_sample: _SliceSample,
    position: int,
    saliency_maps: "Mapping[str, Floats]",
) -> "dict[str, Curves]":
    """Return nothing for a slice that was not called tumour: there is no evidence to delete."""
    from slicewise.explain.explanation import RANDOM_SALIENCY
    from slicewise.explain.faithfulness import compute_curves, random_saliency

    inside, presence = slice_sample.inside[position], slice_sample.presence[position]
    if not slice_sample.rows[position].predicted:
        return {}

    def classify(images: "Floats") -> "Floats":
        return predictor.predict_slices(images, presence, config.evaluation.batch_size).class_probability

    random_map = random_saliency(inside, seed=position)
    return compute_curves(
        classify, slice_sample.images[position], {**saliency_maps, RANDOM_SALIENCY: random_map}, inside
    )


def _sample(slice_sample: _SliceSample, saliency: "Floats", position: int) -> "SaliencySlice":
    from slicewise.explain.explanation import SaliencySlice
    from slicewise.plots.sample_predictions import grey_image

    row = slice_sample.rows[position]
    reference = slice_sample.reference[position] if row.reference_pixels is not None else None
    grey = grey_image(slice_sample.images[position], slice_sample.presence[position])
    return SaliencySlice(row, grey, saliency, slice_sample.inside[position], reference)
