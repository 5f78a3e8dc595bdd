"""The untouched test patients: metrics, figures, Grad-CAM, and the three stages compared.

What is to be chosen is chosen on the validation patients first.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from slicewise.config.schema import Config
from slicewise.config.schema.training import StageName
from slicewise.core.console import progress
from slicewise.core.files import write_json
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.engine.step import Context, Outcome, Step
from slicewise.workflow.checkpoints import load_stage_checkpoint, not_trained, trained_tasks
from slicewise.workflow.demand import evaluation_demand
from slicewise.workflow.modality_ablation import score_modality_subsets
from slicewise.workflow.predictions import case_output, predict_case
from slicewise.workflow.saliency import write_saliency
from slicewise.workflow.settings import select_settings

if TYPE_CHECKING:
    from slicewise.data.store_entry import StoredCase
    from slicewise.evaluation.comparison.stages import StageResult
    from slicewise.evaluation.evaluate import EvaluationResult
    from slicewise.evaluation.held_out import HeldOutResult
    from slicewise.evaluation.per_case import CaseOutput
    from slicewise.evaluation.threshold_selection import ThresholdSelection
    from slicewise.inference.predictor import Predictor
    from slicewise.models.checkpoint import Checkpoint
    from slicewise.workflow.slices import SliceLookup

_STAGES: tuple[StageName, ...] = ("seg_warmup", "cls_head", "joint")
_FINAL_STAGE: StageName = "joint"


def _settings(config: Config) -> dict[str, Any]:
    return select_settings(config, "evaluation", "seed", "data.name", "data.synthetic")


def _run(context: Context[Config]) -> Outcome:
    from slicewise.compute.device import choose_device
    from slicewise.compute.threads import tuned_threads

    runtime = context.config.runtime
    with tuned_threads(runtime.num_threads, "evaluate", choose_device(runtime.device).type) as threads:
        found, notes = _evaluate_stages(context)
        return Outcome(metrics={**found, "num_threads": threads.setting.number}, notes=notes)


def _evaluate_stages(context: Context[Config]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Write everything the step leaves; return its metrics and notes."""
    from slicewise.evaluation.comparison.stage_gains import compute_stage_gains
    from slicewise.evaluation.comparison.stages import write_stage_comparison
    from slicewise.evaluation.held_out import HeldOutCases
    from slicewise.evaluation.report import write_report
    from slicewise.workflow.slices import SliceLookup, open_cases

    data, predictor = context.config.data, _predictor(context, load_stage_checkpoint(context, _FINAL_STAGE))
    selection = _select_thresholds(context, predictor)
    cases = HeldOutCases(partial(open_cases, context, "test")).open(selection)
    held_out = _evaluate_held_out(context, predictor, cases, selection)
    stages = _stage_results(context, cases, held_out)
    folder = context.out("evaluation")
    metrics = write_report(
        folder, held_out, data_name=data.name, stage=_FINAL_STAGE, synthetic=data.synthetic
    )
    compared = write_stage_comparison(context.out("phases"), stages, synthetic=data.synthetic)
    lookup = SliceLookup(cases)
    _draw_samples(context, lookup, held_out)
    failures = _write_failures(context, cases, lookup, held_out)
    found = {
        **metrics,
        "failures": failures,
        f"gains_of_{_FINAL_STAGE}": compute_stage_gains(compared, _FINAL_STAGE),
    }
    if CLASSIFICATION not in held_out.after.not_trained:
        found["gradcam"] = write_saliency(context, predictor, lookup, held_out.after)
    if context.config.evaluation.modality_subsets:
        found["modality_subsets"] = score_modality_subsets(
            context, predictor, cases, selection, held_out.after.not_trained
        )
    return found, _notes(selection, held_out.after.not_trained)


def _predictor(context: Context[Config], checkpoint: "Checkpoint") -> "Predictor":
    from slicewise.inference.predictor import Predictor

    config = context.config
    return Predictor(checkpoint, config.runtime.device, inference=config.evaluation.inference)


def _select_thresholds(context: Context[Config], predictor: "Predictor") -> "ThresholdSelection":
    """Decide on the validation patients and write it down, before the test patients are opened."""
    from slicewise.evaluation.threshold_selection import select_thresholds
    from slicewise.inference.operating_points import CALIBRATION_NAME, OperatingConditions
    from slicewise.workflow.slices import open_cases

    config, cases, untrained_tasks = (
        context.config,
        open_cases(context, "val"),
        not_trained(context, _FINAL_STAGE),
    )
    settings, data = config.evaluation, config.data
    if CLASSIFICATION in untrained_tasks:
        settings = settings.model_copy(update={"calibrate": "none", "operating_point": "fixed"})
    outputs = _case_outputs(predictor, cases, settings.batch_size, "choose", untrained_tasks)
    selection = select_thresholds(outputs, settings, config.seed)
    conditions = OperatingConditions(
        predictor.checkpoint.weights_digest, settings.inference, data.volumes.name, data.pictures.name
    )
    content = {"made_for": conditions.to_json(), **selection.to_json()}
    write_json(context.out("evaluation") / CALIBRATION_NAME, content)
    return selection


def _notes(selection: "ThresholdSelection", untrained_tasks: Sequence[str]) -> tuple[str, ...]:
    untrained = (f"{task} was not trained in any stage: it has no scores" for task in untrained_tasks)
    chosen = (f"{source}: {note}" for source, found in selection.sources.items() for note in found.notes)
    return (*untrained, *chosen)


def _evaluate_held_out(
    context: Context[Config],
    predictor: "Predictor",
    cases: "Sequence[StoredCase]",
    selection: "ThresholdSelection",
) -> "HeldOutResult":
    from slicewise.evaluation.held_out import evaluate_held_out

    settings, untrained_tasks = context.config.evaluation, not_trained(context, _FINAL_STAGE)
    outputs = _case_outputs(
        predictor, cases, settings.batch_size, f"evaluate {_FINAL_STAGE}", untrained_tasks
    )
    return evaluate_held_out(outputs, selection, settings, context.config.seed, untrained_tasks)


def _stage_results(
    context: Context[Config], cases: "Sequence[StoredCase]", held_out: "HeldOutResult"
) -> "list[StageResult]":
    """Compare the stages with the configured thresholds: what was chosen for the last one suits no other.

    Where cls_head trained the head alone, it gives the masks of seg_warmup, and one pass serves both.
    """
    from slicewise.models.checkpoint import gives_same_masks

    first, second = load_stage_checkpoint(context, "seg_warmup"), load_stage_checkpoint(context, "cls_head")
    found = _evaluate(context, second, cases)
    shared = CLASSIFICATION not in trained_tasks(context, "seg_warmup") and gives_same_masks(first, second)
    results = (found if shared else _evaluate(context, first, cases), found, held_out.before)
    return [_stage_result(context, name, result) for name, result in zip(_STAGES, results, strict=True)]


def _evaluate(
    context: Context[Config], checkpoint: "Checkpoint", cases: "Sequence[StoredCase]"
) -> "EvaluationResult":
    from slicewise.evaluation.evaluate import evaluate_slices

    settings = context.config.evaluation
    predictor = _predictor(context, checkpoint)
    outputs = _case_outputs(predictor, cases, settings.batch_size, f"evaluate {checkpoint.stage}")
    return evaluate_slices(outputs, settings, context.config.seed, surfaces=False)


def _stage_result(context: Context[Config], name: StageName, result: "EvaluationResult") -> "StageResult":
    from slicewise.evaluation.comparison.stages import StageResult

    tasks = trained_tasks(context, name)
    return StageResult(
        name, result, trained_mask=SEGMENTATION in tasks, trained_class=CLASSIFICATION in tasks
    )


def _case_outputs(
    predictor: "Predictor",
    cases: "Sequence[StoredCase]",
    batch_size: int,
    description: str,
    untrained_tasks: Sequence[str] = (),
) -> "Iterator[CaseOutput]":
    for case in progress(cases, desc=description, unit="case"):
        found = predict_case(predictor, case, case.images, case.presence, batch_size)
        yield case_output(case, found, untrained_tasks)


def _draw_samples(context: Context[Config], lookup: "SliceLookup", held_out: "HeldOutResult") -> None:
    from slicewise.plots.sample_predictions import Sample, draw_samples, grey_image, select_samples

    rows = held_out.after.slices
    dice = {row.key: row.dice for row in rows}
    groups: dict[str, list[Sample]] = {}
    for group, keys in select_samples(rows, context.config.evaluation.sample_predictions).items():
        groups[group] = []
        for key in keys:
            images, presence, mask = lookup[key]
            groups[group].append(
                Sample(
                    key=key,
                    grey=grey_image(images, presence),
                    reference=mask > 0,
                    predicted=held_out.masks[key],
                    dice=dice[key] or 0.0,
                )
            )
    path = context.out("evaluation") / "sample_predictions.png"
    draw_samples(path, groups, synthetic=context.config.data.synthetic)


def _write_failures(
    context: Context[Config], cases: "Sequence[StoredCase]", lookup: "SliceLookup", held_out: "HeldOutResult"
) -> dict[str, Any]:
    from slicewise.evaluation.failure_report import select_failures, write_failures
    from slicewise.evaluation.failures import analyse_failures, describe_image
    from slicewise.plots.failures import FailurePicture
    from slicewise.plots.sample_predictions import grey_image
    from slicewise.workflow.slices import slice_keys

    config = context.config
    image_features = {
        key: describe_image(images, case.presence)
        for case in cases
        for key, images in zip(slice_keys(case), case.images, strict=True)
    }
    found = analyse_failures(held_out.after, image_features, config.evaluation.failure_dice)
    pictures = []
    for row in select_failures(found, config.evaluation.failure_pictures):
        images, presence, mask = lookup[row.key]
        reference = mask > 0 if row.dice is not None else None
        grey = grey_image(images, presence)
        pictures.append(FailurePicture(row, grey, reference, held_out.masks[row.key]))
    folder = context.out("failures")
    return write_failures(folder, held_out.after, found, pictures, synthetic=config.data.synthetic)


EVALUATE: Step[Config] = Step(
    name="evaluate",
    run=_run,
    settings=_settings,
    needs=("preprocess", "split", "train.seg_warmup", "train.cls_head", "train.joint"),
    homes={
        "evaluation": "results/multitask_evaluation",
        "phases": "results/phase_comparison",
        "failures": "results/failures",
        "gradcam": "visualizations/multitask_gradcam",
        "ablations": "results/ablations",
    },
    product=("metrics.json", "slices.csv", "patients.csv"),
    version=14,
    demand=evaluation_demand,
)
