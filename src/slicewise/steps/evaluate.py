"""The untouched test patients: metrics, figures, Grad-CAM, and the three stages compared."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from slicewise.config.schema import Config
from slicewise.config.schema.training import StageName
from slicewise.core.console import progress
from slicewise.pipeline.step import Context, Outcome, Step
from slicewise.steps.checkpoints import stage_checkpoint
from slicewise.steps.demand import of_evaluation
from slicewise.steps.settings import pick

if TYPE_CHECKING:
    from slicewise.data.stored import StoredCase
    from slicewise.evaluation.evaluate import CaseOutput, EvaluationResult
    from slicewise.evaluation.phases import Phase
    from slicewise.inference.predictor import Predictor
    from slicewise.steps.slices import SliceLookup

_STAGES: tuple[StageName, ...] = ("seg_warmup", "cls_head", "joint")
_LAST: StageName = "joint"


def _settings(config: Config) -> dict[str, Any]:
    return pick(config, "evaluation", "seed", "data.name", "data.synthetic")


def _run(context: Context[Config]) -> Outcome:
    from slicewise.evaluation.phase_report import write_phase_comparison
    from slicewise.evaluation.report import write_report
    from slicewise.steps.slices import SliceLookup, open_cases

    data, cases = context.config.data, open_cases(context, "test")
    phases = [_phase(context, stage, cases) for stage in _STAGES]
    result = phases[-1].result
    folder = context.out("evaluation")
    metrics = write_report(folder, result, data_name=data.name, stage=_LAST, synthetic=data.synthetic)
    write_phase_comparison(context.out("phases"), phases, synthetic=data.synthetic)
    predictor, lookup = _predictor(context, _LAST), SliceLookup(cases)
    _draw_samples(context, predictor, lookup, result)
    heat = _draw_heat(context, predictor, lookup, result)
    return Outcome(metrics={**metrics, "gradcam": heat})


def _predictor(context: Context[Config], stage: StageName) -> "Predictor":
    from slicewise.inference.predictor import Predictor

    config = context.config
    return Predictor(
        stage_checkpoint(context, stage),
        config.runtime.device,
        mask_threshold=config.evaluation.mask_threshold,
    )


def _phase(context: Context[Config], name: StageName, cases: "list[StoredCase]") -> "Phase":
    from slicewise.evaluation.evaluate import evaluate_slices
    from slicewise.evaluation.phases import Phase

    config = context.config
    outputs = _outputs(_predictor(context, name), cases, config.evaluation.batch_size, name)
    stage = getattr(config.stages, name)
    return Phase(
        name,
        # Only the last stage's borders are reported.
        evaluate_slices(outputs, config.evaluation, config.seed, surfaces=name == _LAST),
        trained_mask=bool(stage.objective.segmentation and stage.learning_rates.decoder),
        trained_class=bool(stage.objective.classification and stage.learning_rates.head),
    )


def _outputs(
    predictor: "Predictor", cases: "list[StoredCase]", batch_size: int, name: str
) -> "Iterator[CaseOutput]":
    from slicewise.evaluation.evaluate import CaseOutput
    from slicewise.steps.slices import slice_keys

    for case in progress(cases, desc=f"evaluate {name}", unit="case"):
        found = predictor.predict_slices(case.images, case.presence, batch_size)
        yield CaseOutput(
            keys=slice_keys(case),
            group=case.group,
            mask_probability=found.mask_probability,
            class_probability=found.class_probability,
            masks=case.masks,
            has_mask=case.has_mask,
            labels=case.labels,
            pixel_mm=case.pixel_mm,
            slice_mm=case.slice_mm,
        )


def _draw_samples(
    context: Context[Config], predictor: "Predictor", lookup: "SliceLookup", result: "EvaluationResult"
) -> None:
    from slicewise.evaluation.gallery import Sample, choose_samples, draw_samples, grey_image

    settings = context.config.evaluation
    dice = {row.key: row.dice for row in result.slices}
    groups: dict[str, list[Sample]] = {}
    for group, keys in choose_samples(result.slices, settings.sample_predictions).items():
        groups[group] = []
        for key in keys:
            images, presence, mask = lookup[key]
            probability = predictor.predict_slices(images[None], presence).mask_probability[0]
            groups[group].append(
                Sample(
                    key=key,
                    grey=grey_image(images, presence),
                    reference=mask > 0,
                    predicted=probability >= settings.mask_threshold,
                    dice=dice[key] or 0.0,
                )
            )
    path = context.out("evaluation") / "sample_predictions.png"
    draw_samples(path, groups, synthetic=context.config.data.synthetic)


def _draw_heat(
    context: Context[Config], predictor: "Predictor", lookup: "SliceLookup", result: "EvaluationResult"
) -> dict[str, Any]:
    from slicewise.evaluation.gallery import grey_image
    from slicewise.evaluation.gradcam_report import (
        HeatSlice,
        choose_heat_slices,
        summarise_heat,
        write_gradcam,
    )
    from slicewise.inference.gradcam import gradcam

    config = context.config
    rows = {row.key: row for row in result.slices}

    def slices() -> Iterator[HeatSlice]:
        keys = choose_heat_slices(result.slices, config.evaluation.gradcam_pictures)
        for key in progress(keys, desc="Grad-CAM", unit="picture"):
            images, presence, mask = lookup[key]
            inside = (images != 0).any(axis=0)
            heat = gradcam(predictor.model, images[None], presence, inside=inside[None])[0]
            reference = mask > 0 if rows[key].reference_pixels is not None else None
            yield HeatSlice(rows[key], grey_image(images, presence), heat, inside, reference)

    written = write_gradcam(context.out("gradcam"), slices(), synthetic=config.data.synthetic)
    return summarise_heat(written)


EVALUATE: Step[Config] = Step(
    name="evaluate",
    run=_run,
    settings=_settings,
    needs=("preprocess", "split", "train.seg_warmup", "train.cls_head", "train.joint"),
    homes={
        "evaluation": "results/multitask_evaluation",
        "phases": "results/phase_comparison",
        "gradcam": "visualizations/multitask_gradcam",
    },
    product=("metrics.json", "slices.csv", "patients.csv"),
    version=2,
    demand=of_evaluation,
)
