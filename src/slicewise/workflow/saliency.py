"""The saliency part of the step `evaluate`: maps of the same slices by every configured method."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Config
from slicewise.core.console import progress
from slicewise.core.files import write_json
from slicewise.domain.keys import SliceKey
from slicewise.domain.tables import SliceRow
from slicewise.engine.step import Context
from slicewise.evaluation.evaluate import EvaluationResult
from slicewise.explain.cam import compute_saliency
from slicewise.explain.explanation import RANDOM_SALIENCY, SaliencySlice, SliceExplanation
from slicewise.explain.faithfulness import Curves, compute_curves, random_saliency
from slicewise.explain.localization import select_saliency_slices, summarise_saliency, write_gradcam
from slicewise.explain.randomization import randomize_cascade, rank_correlation
from slicewise.explain.report import write_explanations
from slicewise.inference.pipeline import Pipeline
from slicewise.models.multitask import MultitaskModel
from slicewise.plots.sample_predictions import grey_image
from slicewise.workflow.slices import SliceLookup

Floats = NDArray[np.float32]
SaliencyMaps = Mapping[str, Floats]
"""By method: [P, N, N], or [N, N] of one slice"""

_SANITY_SLICES: Final = 8
"""The sanity check computes all maps three times more; it tests a method, for which a few slices suffice."""


def write_saliency(
    context: Context[Config], pipeline: Pipeline, lookup: SliceLookup, result: EvaluationResult
) -> dict[str, Any]:
    """Write Grad-CAM, the other methods beside it and their scores; return the summary."""
    folder, synthetic = context.out("gradcam"), context.config.data.synthetic
    rows = {row.key: row for row in result.slices if lookup.is_included(row.key)}
    keys = select_saliency_slices([*rows.values()], context.config.evaluation.gradcam_pictures)
    explained = _explain(context.config, pipeline, lookup, {key: rows[key] for key in keys})
    written = write_gradcam(folder, [explanation.sample for explanation in explained], synthetic=synthetic)
    methods = write_explanations(folder, explained, synthetic=synthetic)
    summary = {**summarise_saliency(written), "methods": methods}
    write_json(folder / "summary.json", {"synthetic": synthetic, **summary})
    return summary


def _explain(
    config: Config, pipeline: Pipeline, lookup: SliceLookup, rows: Mapping[SliceKey, SliceRow]
) -> list[SliceExplanation]:
    """Return the saliency maps of P slices by each method, and their scores."""
    if not rows:
        return []
    settings, slices = config.evaluation, [lookup[key] for key in rows]
    images = np.array([image for image, _, _ in slices], np.float32)  # [P, 4, N, N]
    presence = np.array([present for _, present, _ in slices], np.float32)  # [P, 4]
    inside = (images != 0).any(axis=1)  # [P, N, N], the brain

    def compute_maps(model: MultitaskModel, number: int) -> SaliencyMaps:
        return compute_saliency(
            model,
            images[:number],
            presence[:number],
            settings.explanations,
            inside=inside[:number],
            batch_size=settings.batch_size,
        )

    maps = compute_maps(pipeline.model, len(rows))
    correlations = _rank_correlations(
        pipeline.model, config.seed, lambda model: compute_maps(model, _SANITY_SLICES), maps, inside
    )
    explained = []
    for position, row in enumerate(progress(list(rows.values()), desc="explain", unit="picture")):
        image, present, brain = images[position], presence[position], inside[position]
        slice_maps = {name: saliency[position] for name, saliency in maps.items()}
        reference = slices[position][2] > 0 if row.reference_pixels is not None else None
        # A slice predicted as healthy has no evidence to delete.
        curves = {}
        if row.predicted:
            curves = _compute_curves(pipeline, image, present, slice_maps, brain, seed=position)
        sample = SaliencySlice(row, grey_image(image, present), slice_maps["gradcam"], brain, reference)
        correlation = {
            name: values[position]
            for name, values in correlations.items()
            if position < len(values) and slice_maps[name].any()
        }
        explained.append(SliceExplanation(sample, slice_maps, curves, correlation))
    return explained


def _compute_curves(
    pipeline: Pipeline,
    image: Floats,
    presence: Floats,
    maps: SaliencyMaps,
    inside: NDArray[np.bool_],
    seed: int,
) -> dict[str, Curves]:
    """Return the deletion and insertion curves of one slice by each map [N, N], and by a random one."""

    def classify(images: Floats) -> Floats:
        return pipeline.predict_slices(images, presence).class_probability

    random_map = random_saliency(inside, seed=seed)
    return compute_curves(classify, image, {**maps, RANDOM_SALIENCY: random_map}, inside)


def _rank_correlations(
    model: MultitaskModel,
    seed: int,
    compute_maps: Callable[[MultitaskModel], SaliencyMaps],
    maps: SaliencyMaps,
    inside: NDArray[np.bool_],
) -> dict[str, list[list[float]]]:
    """Return by method, for the first slices, the rank correlation with each randomised model's map."""
    correlations: dict[str, list[list[float]]] = {
        name: [[] for _ in saliency[:_SANITY_SLICES]] for name, saliency in maps.items()
    }
    for _, randomized in randomize_cascade(model, seed):
        for name, randomized_maps in compute_maps(randomized).items():
            for position, values in enumerate(correlations[name]):
                values.append(
                    rank_correlation(maps[name][position], randomized_maps[position], inside[position])
                )
    return correlations
