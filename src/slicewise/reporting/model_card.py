"""`model_card.md`: the network in the format of the Hugging Face hub, filled from the run."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from huggingface_hub import EvalResult, ModelCardData

from slicewise.core.files import read_json
from slicewise.domain.tables import resampling_unit
from slicewise.reporting.html import template_environment
from slicewise.reporting.run_info import RunInfo
from slicewise.reporting.scores import (
    collect_warnings,
    get_decision,
    headline_scores,
    selection_notes,
    uncalibrated_sources,
    with_thresholds,
)

_MODEL_NAME: Final = "slicewise-multitask"
_TASKS: Final = (
    ("segmentation", "image-segmentation", {"dice_per_patient": "Dice per patient"}),
    (
        "classification",
        "image-classification",
        {"roc_auc": "ROC-AUC", "accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy"},
    ),
)


def render_card(run: RunInfo, evaluation: Path) -> str:
    """Return the card: YAML front matter with the metrics, then the text.

    Raises:
        WorkspaceError: `metrics.json` in the folder `evaluation` is damaged.
    """
    metrics = read_json(evaluation / "metrics.json")
    text = (
        template_environment()
        .get_template("model_card.md.j2")
        .render(
            run=run,
            metrics=metrics,
            warnings=list(collect_warnings(run, metrics)),
            notes=selection_notes(metrics),
            raw=uncalibrated_sources(metrics),
            sources={
                name: with_thresholds(
                    headline_scores(entry, metrics.get("not_trained", ())), get_decision(metrics, name)
                )
                for name, entry in metrics["sources"].items()
            },
        )
    )
    return f"---\n{_front_matter(run, metrics).to_yaml()}\n---\n\n{text}"


def _front_matter(run: RunInfo, metrics: Mapping[str, Any]) -> ModelCardData:
    tags = ["medical-imaging", "mri", "brain-tumour", "multi-task"]
    return ModelCardData(
        language="en",
        license="mit",
        library_name="pytorch",
        pipeline_tag="image-segmentation",
        tags=[*tags, *(["synthetic-data"] if run.synthetic else [])],
        model_name=_MODEL_NAME,
        eval_results=list(_eval_results(run, metrics)),
    )


def _eval_results(run: RunInfo, metrics: Mapping[str, Any]) -> Iterator[EvalResult]:
    for source, entry in metrics["sources"].items():
        for section, task, names in _TASKS:
            for key, name in names.items():
                estimate = (entry[section] or {}).get(key)
                if estimate is not None and estimate["value"] is not None:
                    yield EvalResult(
                        task_type=task,
                        dataset_type=source,
                        dataset_name=f"{run.data_name}/{source}" + (" (synthetic)" if run.synthetic else ""),
                        dataset_split="test",
                        metric_type=key,
                        metric_name=name,
                        metric_value=estimate["value"],
                        metric_args={
                            "interval": estimate["interval"],
                            "confidence": metrics["intervals"]["confidence"],
                            f"num_{resampling_unit(entry)}": estimate["num_patients"],
                        },
                    )
