"""The work of the step `evaluate`: the held-out test cases scored, drawn, explained and compared by stage.

Whatever is selected is selected on the validation cases first.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from slicewise.config.schema import Config
from slicewise.config.schema.model import TaskName
from slicewise.core.console import progress
from slicewise.core.files import write_json
from slicewise.data.store import StoredCase
from slicewise.domain.classes import TUMOUR, TUMOUR_OR_NOT
from slicewise.domain.labels import CLASSIFICATION, COLOURS, SEGMENTATION
from slicewise.domain.tables import SliceRow
from slicewise.engine.step import Context
from slicewise.evaluation.case_output import CaseOutput
from slicewise.evaluation.comparison import (
    Variant,
    compare,
    compute_gains,
    gain_text,
    majority_rows,
    write_comparison,
)
from slicewise.evaluation.evaluate import ScoredCase, evaluate_slices, pool_cases, score_case
from slicewise.evaluation.failures import analyse_failures, describe_image, select_failures, write_failures
from slicewise.evaluation.held_out import HeldOutCases, HeldOutResult, evaluate_held_out
from slicewise.evaluation.modality_ablation import list_subsets, mask_modalities, write_modality_ablation
from slicewise.evaluation.report import headlines, write_report
from slicewise.evaluation.threshold_selection import ThresholdSelection, select_thresholds
from slicewise.explain.cam import compute_saliency
from slicewise.explain.explanation import RANDOM_SALIENCY, SliceExplanation, select_saliency_slices
from slicewise.explain.faithfulness import (
    Curves,
    compute_curves,
    random_saliency,
    randomize_cascade,
    rank_correlation,
)
from slicewise.explain.report import write_saliency
from slicewise.imaging.volume import Presence
from slicewise.inference.operating_points import CALIBRATION_NAME, OperatingConditions
from slicewise.inference.pipeline import Pipeline
from slicewise.inference.prediction import Prediction, SlicePredictions
from slicewise.models.checkpoint import Checkpoint, gives_same_masks
from slicewise.models.multitask import MultitaskModel
from slicewise.plots.sample_predictions import (
    Row,
    SlicePicture,
    colour_image,
    draw_samples,
    grey_image,
    select_samples,
)
from slicewise.tasks.base import Task
from slicewise.tasks.build import find_classification, find_segmentation, make_tasks
from slicewise.workflow import slices
from slicewise.workflow.checkpoints import load_stage_checkpoint, trained_tasks
from slicewise.workflow.slices import SliceLookup, slice_keys

Cases = Sequence[StoredCase]
Floats = NDArray[np.float32]
SaliencyMaps = Mapping[str, Floats]
"""By method: [P, N, N]"""

_SANITY_SLICES: Final = 8
"""The randomization test computes all maps three times more; it tests a method: a few slices suffice."""


def evaluate(context: Context[Config]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Write every output of the step; return its metrics and notes."""
    config, data, final = context.config, context.config.data, context.config.final_stage
    pipeline = _pipeline(context, load_stage_checkpoint(context, final))
    selection = _select_thresholds(context, pipeline)
    cases = HeldOutCases(partial(slices.open_cases, context, "test")).open(selection)
    outputs = case_outputs(pipeline, cases, f"evaluate {final}")
    held_out = evaluate_held_out(outputs, selection, config.evaluation, config.seed, (*pipeline.tasks,))
    stages = _stage_results(context, cases, held_out)
    metrics = write_results(context, pipeline, cases, held_out, final)
    compared = compare(stages, held_out.after.bootstrap)
    if CLASSIFICATION in pipeline.tasks:
        compared += majority_rows(stages[-1], held_out.after.slice_classes)
    scores = [*dict.fromkeys(row.score for row in compared)]
    compared.sort(key=lambda row: (row.source, scores.index(row.score)))
    title = "Training stages on the same test slices"
    write_comparison(
        context.out("phases"), "phase_comparison", compared, title, stages, synthetic=data.synthetic
    )
    metrics[f"gains_of_{final}"] = gains = compute_gains(compared, final)
    metrics["headlines"] = headlines(
        metrics, {source: gain_text(final, by_score) for source, by_score in gains.items()}
    )
    notes = [f"{source}: {note}" for source, chosen in selection.sources.items() for note in chosen.notes]
    return metrics, tuple(notes)


def write_results(
    context: Context[Config], pipeline: Pipeline, cases: Cases, held_out: HeldOutResult, stage: str
) -> dict[str, Any]:
    """Write tables, figures, failures, saliency and modality ablation of test cases; return the metrics."""
    config, synthetic = context.config, context.config.data.synthetic
    metrics = write_report(
        context.out("evaluation"), held_out, data_name=config.data.name, stage=stage, synthetic=synthetic
    )
    lookup = SliceLookup(cases)
    _draw_samples(context, lookup, held_out)
    metrics["failures"] = _write_failures(context, cases, lookup, held_out)
    if CLASSIFICATION in pipeline.tasks:
        included = [row for row in held_out.after.slices if row.asked]
        explained = _explain(config, pipeline, lookup, included)
        classes, folder = held_out.after.slice_classes, context.out("gradcam")
        metrics["gradcam"] = write_saliency(folder, explained, classes, synthetic=synthetic)
    if config.evaluation.modality_subsets:
        metrics["modality_subsets"] = _write_modality_ablation(context, pipeline, cases, held_out.selection)
    return metrics


def _pipeline(context: Context[Config], checkpoint: Checkpoint) -> Pipeline:
    return Pipeline([checkpoint], context.config.evaluation, device=context.config.runtime.device)


def case_outputs(pipeline: Pipeline, cases: Cases, description: str) -> Iterator[CaseOutput]:
    for case in progress(cases, desc=description, unit="case"):
        yield case_output(case, pipeline.predict(case), pipeline.tasks)


def case_output(
    case: StoredCase, probabilities: Prediction | SlicePredictions, tasks: Mapping[TaskName, Task]
) -> CaseOutput:
    """Return the predictions for the slices of a case beside the reference.

    Excluded slices have no mask and the probability 0, as in serving. Without segmentation among `tasks` the
    case counts as one without a mask.
    """
    task, classification = find_segmentation(tasks), find_classification(tasks)
    return CaseOutput(
        keys=slice_keys(case),
        group=case.group,
        mask_probability=probabilities.mask_probability,
        class_probability=probabilities.class_probability,
        masks=task.encode_masks(case.masks) if task else case.masks[:, None] > 0,
        has_mask=case.has_mask and task is not None,
        labels=case.labels,
        pixel_mm=case.pixel_mm,
        slice_mm=case.slice_mm,
        included=case.included,
        classes=task.class_set if task else TUMOUR,
        slice_classes=classification.class_set if classification else TUMOUR_OR_NOT,
    )


def _select_thresholds(context: Context[Config], pipeline: Pipeline) -> ThresholdSelection:
    """Select on the validation cases and write the selection, before the test cases are opened."""
    selection, content = select_operating_points(pipeline, slices.open_cases(context, "val"), context.config)
    write_json(context.out("evaluation") / CALIBRATION_NAME, content)
    return selection


def select_operating_points(
    pipeline: Pipeline, cases: Cases, config: Config
) -> tuple[ThresholdSelection, dict[str, Any]]:
    """Return what is selected on validation cases, and the content of calibration.json."""
    settings = config.evaluation
    if CLASSIFICATION not in pipeline.tasks:
        settings = settings.model_copy(update={"calibrate": "none", "operating_point": "fixed"})
    outputs = case_outputs(pipeline, cases, "select thresholds")
    selection = select_thresholds(outputs, settings, config.seed)
    # The thresholds of the first source of volumes or pictures are those for new files.
    first = {source.unit: source.name for source in reversed(config.data.sources.values())}
    names = (first.get("volume", "no_volumes"), first.get("picture", "no_pictures"))
    conditions = OperatingConditions(pipeline.checkpoints[0].weights_digest, settings.inference, *names)
    return selection, {"made_for": conditions.to_json(), **selection.to_json()}


def _stage_results(context: Context[Config], cases: Cases, held_out: HeldOutResult) -> list[Variant]:
    """Return the results of the stages with the configured thresholds: the selected ones suit only the last.

    Where a stage trained the classification head alone, it gives the masks of the stage before, and one pass
    serves both.
    """
    stages = [*context.config.stages]
    tasks = {stage: trained_tasks(context, stage) for stage in stages}
    results, later = [held_out.before], None
    for stage in reversed(stages[:-1]):
        checkpoint = load_stage_checkpoint(context, stage)
        is_shared = later and CLASSIFICATION not in tasks[stage] and gives_same_masks(checkpoint, later)
        result = results[0]
        if not is_shared:
            outputs = case_outputs(_pipeline(context, checkpoint), cases, f"evaluate {stage}")
            config = context.config
            result = evaluate_slices(outputs, config.evaluation, config.seed, surfaces=False)
        results.insert(0, result)
        later = checkpoint
    return [
        Variant.configured(stage, result, {SEGMENTATION, CLASSIFICATION} - tasks[stage])
        for stage, result in zip(stages, results, strict=True)
    ]


def _draw_samples(context: Context[Config], lookup: SliceLookup, held_out: HeldOutResult) -> None:
    rows = {row.key: row for row in held_out.after.slices}
    samples = select_samples([*rows.values()], context.config.evaluation.sample_predictions)
    pictures = {
        group: [_picture(context.config, rows[key], lookup, held_out) for key in keys]
        for group, keys in samples.items()
    }
    path = context.out("evaluation") / "sample_predictions.png"
    draw_samples(path, pictures, synthetic=context.config.data.synthetic)


def _picture(config: Config, row: Row, lookup: SliceLookup, held_out: HeldOutResult) -> SlicePicture[Row]:
    images, presence, mask = lookup[row.key]
    task = find_segmentation(make_tasks(config.tasks))
    reference = task.encode_masks(mask[None])[0] if task and row.dice is not None else None
    predicted, classes = held_out.predicted_masks(row), held_out.after.classes
    image = grey_image(images, presence)
    if config.preprocessing.channels == COLOURS:
        image = colour_image(images, config.preprocessing.intensity)
    return SlicePicture(row, image, reference, predicted, classes, held_out.after.slice_classes)


def _write_failures(
    context: Context[Config], cases: Cases, lookup: SliceLookup, held_out: HeldOutResult
) -> dict[str, Any]:
    settings, synthetic = context.config.evaluation, context.config.data.synthetic
    image_traits = {
        key: describe_image(images, dict(zip(case.channels, case.presence, strict=True)))
        for case in cases
        for key, images in zip(slice_keys(case), case.images, strict=True)
    }
    if settings.failure_iou is None:
        failures = analyse_failures(held_out.after, image_traits, settings.failure_dice)
    else:
        failures = analyse_failures(held_out.after, image_traits, settings.failure_iou, "iou")
    worst = select_failures(failures, settings.failure_pictures)
    pictures = [_picture(context.config, row, lookup, held_out) for row in worst]
    return write_failures(context.out("failures"), held_out.after, failures, pictures, synthetic=synthetic)


def _write_modality_ablation(
    context: Context[Config], pipeline: Pipeline, cases: Cases, selection: ThresholdSelection
) -> dict[str, Any]:
    """Score the volumes with every subset of their modalities; return Dice and AUC by source and subset."""
    config, settings = context.config, context.config.evaluation
    scored: dict[Presence, list[ScoredCase]] = {}
    volumes = [case for case in cases if case.has_mask and len(case.labels)]
    for case in progress(volumes, desc="modality subsets", unit="case"):
        postprocessing = selection.postprocessing(case.key.source)
        for subset in list_subsets(case.presence):
            images = mask_modalities(case.images, subset)
            output = case_output(case, pipeline.predict_stack(images, subset, case.included), pipeline.tasks)
            scored.setdefault(subset, []).append(score_case(output, settings, postprocessing, surfaces=False))
    results = {
        subset: replace(pool_cases(scored[subset], settings, config.seed), tasks=(*pipeline.tasks,))
        for subset in sorted(scored, key=lambda subset: (-sum(subset), [not present for present in subset]))
    }
    folder, synthetic = context.out("ablations"), config.data.synthetic
    return write_modality_ablation(folder, results, config.preprocessing.channels, synthetic=synthetic)


def _explain(
    config: Config, pipeline: Pipeline, lookup: SliceLookup, slices: Sequence[SliceRow]
) -> list[SliceExplanation]:
    """Return the saliency maps of P selected slices by each method, and their scores."""
    keys = select_saliency_slices(slices, config.evaluation.gradcam_pictures)
    if not keys:
        return []
    rows, parts = {row.key: row for row in slices}, [lookup[key] for key in keys]
    images = np.array([image for image, _, _ in parts], np.float32)  # [P, channel, N, N]
    presence = np.array([present for _, present, _ in parts], np.float32)  # [P, channel]
    inside = (images != 0).any(axis=1)  # [P, N, N], the brain
    several = bool(pipeline.slice_classes.several)
    targets = [rows[key].predicted for key in keys] if several else None
    maps, correlations = _compute_maps(config, pipeline.model, images, presence, inside, targets)
    explained = []
    for place, key in enumerate(progress(keys, desc="explain", unit="picture")):
        row, image, present, brain = rows[key], images[place], presence[place], inside[place]
        slice_maps = {name: saliency[place] for name, saliency in maps.items()}
        curves: Mapping[str, Curves] = {}
        if several or row.predicted:  # a slice predicted as healthy has no evidence to delete
            blobs = {RANDOM_SALIENCY: random_saliency(brain, seed=place)}
            classify = partial(_classify, pipeline, present, row.predicted if several else None)
            curves = compute_curves(classify, image, {**slice_maps, **blobs}, brain)
        reference = None if row.reference_pixels is None else parts[place][2] > 0
        correlation = {
            name: values[place]
            for name, values in correlations.items()
            if place < len(values) and slice_maps[name].any()
        }
        grey = grey_image(image, present)
        explained.append(SliceExplanation(row, grey, brain, reference, slice_maps, curves, correlation))
    return explained


def _compute_maps(
    config: Config,
    model: MultitaskModel,
    images: Floats,
    presence: Floats,
    inside: NDArray[np.bool_],
    targets: Sequence[int] | None,
) -> tuple[SaliencyMaps, dict[str, list[list[float]]]]:
    """Return the maps by method, and for the first slices the rank correlation with each randomized model."""
    settings = config.evaluation
    compute = partial(compute_saliency, methods=settings.explanations, batch_size=settings.batch_size)
    maps = compute(model, images, presence, inside=inside, targets=targets)
    first = slice(_SANITY_SLICES)
    correlations: dict[str, list[list[float]]] = {name: [[] for _ in maps[name][first]] for name in maps}
    for _, randomized in randomize_cascade(model, config.seed):
        own_targets = targets and targets[first]
        changed = compute(
            randomized, images[first], presence[first], inside=inside[first], targets=own_targets
        )
        for name, values in correlations.items():
            for own, *pair in zip(values, maps[name], changed[name], inside, strict=False):
                own.append(rank_correlation(*pair))
    return maps, correlations


def _classify(pipeline: Pipeline, presence: Floats, number: int | None, images: Floats) -> Floats:
    """Return the probability of tumour, or of one of several classes by its number."""
    probability = pipeline.predict_slices(images, presence).class_probability
    return probability if number is None else probability[:, number]
