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
from slicewise.core.labels import CLASSIFICATION, SEGMENTATION
from slicewise.pipeline.step import Context, Outcome, Step
from slicewise.steps.checkpoints import not_trained, stage_checkpoint, trained_in
from slicewise.steps.demand import of_evaluation
from slicewise.steps.explanations import write_heat
from slicewise.steps.modalities import write_subsets
from slicewise.steps.outputs import answers, case_output
from slicewise.steps.settings import pick

if TYPE_CHECKING:
    from slicewise.data.stored import StoredCase
    from slicewise.evaluation.choices import Choices
    from slicewise.evaluation.evaluate import CaseOutput, EvaluationResult
    from slicewise.evaluation.final import FinalResult
    from slicewise.evaluation.phases import Phase
    from slicewise.inference.predictor import Predictor
    from slicewise.models.checkpoint import Checkpoint
    from slicewise.steps.slices import SliceLookup

_STAGES: tuple[StageName, ...] = ("seg_warmup", "cls_head", "joint")
_LAST: StageName = "joint"


def _settings(config: Config) -> dict[str, Any]:
    return pick(config, "evaluation", "seed", "data.name", "data.synthetic")


def _run(context: Context[Config]) -> Outcome:
    from slicewise.compute.threads import chosen_threads
    from slicewise.inference.device import choose_device

    runtime = context.config.runtime
    with chosen_threads(runtime.num_threads, "evaluate", choose_device(runtime.device).type) as threads:
        found, notes = _evaluate_stages(context)
        return Outcome(metrics={**found, "num_threads": threads.setting.number}, notes=notes)


def _evaluate_stages(context: Context[Config]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Write everything the step leaves; return its metrics and notes."""
    from slicewise.evaluation.gains import gains_of
    from slicewise.evaluation.phase_report import write_phase_comparison
    from slicewise.evaluation.report import write_report
    from slicewise.evaluation.sealed import SealedCases
    from slicewise.steps.slices import SliceLookup, open_cases

    data, predictor = context.config.data, _predictor(context, stage_checkpoint(context, _LAST))
    choices = _choose(context, predictor)
    cases = SealedCases(partial(open_cases, context, "test")).unseal(choices)
    final = _evaluate_last(context, predictor, cases, choices)
    phases = _phases(context, cases, final)
    folder = context.out("evaluation")
    metrics = write_report(folder, final, data_name=data.name, stage=_LAST, synthetic=data.synthetic)
    compared = write_phase_comparison(context.out("phases"), phases, synthetic=data.synthetic)
    lookup = SliceLookup(cases)
    _draw_samples(context, lookup, final)
    failures = _explain_failures(context, cases, lookup, final)
    found = {**metrics, "failures": failures, f"gains_of_{_LAST}": gains_of(compared, _LAST)}
    if CLASSIFICATION not in final.after.not_trained:
        found["gradcam"] = write_heat(context, predictor, lookup, final.after)
    if context.config.evaluation.modality_subsets:
        found["modality_subsets"] = write_subsets(context, predictor, cases, choices, final.after.not_trained)
    return found, _notes(choices, final.after.not_trained)


def _predictor(context: Context[Config], checkpoint: "Checkpoint") -> "Predictor":
    from slicewise.inference.predictor import Predictor

    config = context.config
    return Predictor(checkpoint, config.runtime.device, asking=config.evaluation.asking)


def _choose(context: Context[Config], predictor: "Predictor") -> "Choices":
    """Decide on the validation patients and write it down, before the test patients are opened."""
    from slicewise.evaluation.choices import make_choices
    from slicewise.evaluation.operating import CALIBRATION_NAME, MadeFor
    from slicewise.steps.slices import open_cases

    config, cases, missing = context.config, open_cases(context, "val"), not_trained(context, _LAST)
    settings, data = config.evaluation, config.data
    if CLASSIFICATION in missing:
        settings = settings.model_copy(update={"calibrate": "none", "operating_point": "fixed"})
    outputs = _outputs(predictor, cases, settings.batch_size, "choose", missing)
    choices = make_choices(outputs, settings, config.seed)
    made_for = MadeFor(
        predictor.checkpoint.weights_digest, settings.asking, data.volumes.name, data.pictures.name
    )
    content = {"made_for": made_for.to_json(), **choices.to_json()}
    write_json(context.out("evaluation") / CALIBRATION_NAME, content)
    return choices


def _notes(choices: "Choices", missing: Sequence[str]) -> tuple[str, ...]:
    untrained = (f"{task} was not trained in any stage: it has no scores" for task in missing)
    chosen = (f"{source}: {note}" for source, found in choices.sources.items() for note in found.notes)
    return (*untrained, *chosen)


def _evaluate_last(
    context: Context[Config], predictor: "Predictor", cases: "Sequence[StoredCase]", choices: "Choices"
) -> "FinalResult":
    from slicewise.evaluation.final import evaluate_final

    settings, missing = context.config.evaluation, not_trained(context, _LAST)
    outputs = _outputs(predictor, cases, settings.batch_size, f"evaluate {_LAST}", missing)
    return evaluate_final(outputs, choices, settings, context.config.seed, missing)


def _phases(context: Context[Config], cases: "Sequence[StoredCase]", final: "FinalResult") -> "list[Phase]":
    """Compare the stages with the configured thresholds: what was chosen for the last one suits no other.

    Where cls_head trained the head alone, it gives the masks of seg_warmup, and one pass serves both.
    """
    from slicewise.models.checkpoint import gives_same_masks

    first, second = stage_checkpoint(context, "seg_warmup"), stage_checkpoint(context, "cls_head")
    found = _evaluate(context, second, cases)
    shared = CLASSIFICATION not in trained_in(context, "seg_warmup") and gives_same_masks(first, second)
    results = (found if shared else _evaluate(context, first, cases), found, final.before)
    return [_phase(context, name, result) for name, result in zip(_STAGES, results, strict=True)]


def _evaluate(
    context: Context[Config], checkpoint: "Checkpoint", cases: "Sequence[StoredCase]"
) -> "EvaluationResult":
    from slicewise.evaluation.evaluate import evaluate_slices

    settings = context.config.evaluation
    predictor = _predictor(context, checkpoint)
    outputs = _outputs(predictor, cases, settings.batch_size, f"evaluate {checkpoint.stage}")
    return evaluate_slices(outputs, settings, context.config.seed, surfaces=False)


def _phase(context: Context[Config], name: StageName, result: "EvaluationResult") -> "Phase":
    from slicewise.evaluation.phases import Phase

    tasks = trained_in(context, name)
    return Phase(name, result, trained_mask=SEGMENTATION in tasks, trained_class=CLASSIFICATION in tasks)


def _outputs(
    predictor: "Predictor",
    cases: "Sequence[StoredCase]",
    batch_size: int,
    what: str,
    missing: Sequence[str] = (),
) -> "Iterator[CaseOutput]":
    for case in progress(cases, desc=what, unit="case"):
        found = answers(predictor, case, case.images, case.presence, batch_size)
        yield case_output(case, found, missing)


def _draw_samples(context: Context[Config], lookup: "SliceLookup", final: "FinalResult") -> None:
    from slicewise.evaluation.gallery import Sample, choose_samples, draw_samples, grey_image

    rows = final.after.slices
    dice = {row.key: row.dice for row in rows}
    groups: dict[str, list[Sample]] = {}
    for group, keys in choose_samples(rows, context.config.evaluation.sample_predictions).items():
        groups[group] = []
        for key in keys:
            images, presence, mask = lookup[key]
            groups[group].append(
                Sample(
                    key=key,
                    grey=grey_image(images, presence),
                    reference=mask > 0,
                    predicted=final.masks[key],
                    dice=dice[key] or 0.0,
                )
            )
    path = context.out("evaluation") / "sample_predictions.png"
    draw_samples(path, groups, synthetic=context.config.data.synthetic)


def _explain_failures(
    context: Context[Config], cases: "Sequence[StoredCase]", lookup: "SliceLookup", final: "FinalResult"
) -> dict[str, Any]:
    from slicewise.evaluation.failure_report import FailurePicture, choose_failures, write_failures
    from slicewise.evaluation.failures import analyse, describe_image
    from slicewise.evaluation.gallery import grey_image
    from slicewise.steps.slices import slice_keys

    config = context.config
    looks = {
        key: describe_image(images, case.presence)
        for case in cases
        for key, images in zip(slice_keys(case), case.images, strict=True)
    }
    found = analyse(final.after, looks, config.evaluation.failure_dice)
    pictures = []
    for row in choose_failures(found, config.evaluation.failure_pictures):
        images, presence, mask = lookup[row.key]
        reference = mask > 0 if row.dice is not None else None
        grey = grey_image(images, presence)
        pictures.append(FailurePicture(row, grey, reference, final.masks[row.key]))
    folder = context.out("failures")
    return write_failures(folder, final.after, found, pictures, synthetic=config.data.synthetic)


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
    demand=of_evaluation,
)
