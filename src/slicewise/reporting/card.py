"""`model_card.md`: the network in the format of the Hugging Face hub, filled from the run."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from huggingface_hub import EvalResult, ModelCardData

from slicewise.core.files import read_json
from slicewise.evaluation.rows import unit_of
from slicewise.reporting.facts import RunFacts
from slicewise.reporting.page import environment
from slicewise.reporting.scores import (
    choice_notes,
    decision_of,
    headlines,
    raw_sources,
    warnings,
    with_conditions,
)

_NAME: Final = "slicewise-multitask"
_TASKS: Final = (
    ("segmentation", "image-segmentation", {"dice_per_patient": "Dice per patient"}),
    (
        "classification",
        "image-classification",
        {"roc_auc": "ROC-AUC", "accuracy": "Accuracy", "balanced_accuracy": "Balanced accuracy"},
    ),
)


def render_card(run: RunFacts, evaluation: Path) -> str:
    """Return the card: YAML front matter with the metrics, then the text.

    Raises:
        WorkspaceError: `metrics.json` in the folder `evaluation` is damaged.
    """
    metrics = read_json(evaluation / "metrics.json")
    text = (
        environment()
        .get_template("model_card.md.j2")
        .render(
            run=run,
            metrics=metrics,
            warnings=list(warnings(run, metrics)),
            notes=choice_notes(metrics),
            raw=raw_sources(metrics),
            sources={
                name: with_conditions(
                    headlines(found, metrics.get("not_trained", ())), decision_of(metrics, name)
                )
                for name, found in metrics["sources"].items()
            },
        )
    )
    return f"---\n{_front_matter(run, metrics).to_yaml()}\n---\n\n{text}"


def _front_matter(run: RunFacts, metrics: Mapping[str, Any]) -> ModelCardData:
    tags = ["medical-imaging", "mri", "brain-tumour", "multi-task"]
    return ModelCardData(
        language="en",
        license="mit",
        library_name="pytorch",
        pipeline_tag="image-segmentation",
        tags=[*tags, *(["synthetic-data"] if run.synthetic else [])],
        model_name=_NAME,
        eval_results=list(_results(run, metrics)),
    )


def _results(run: RunFacts, metrics: Mapping[str, Any]) -> Iterator[EvalResult]:
    for source, found in metrics["sources"].items():
        for section, task, names in _TASKS:
            for key, name in names.items():
                estimate = (found[section] or {}).get(key)
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
                            f"num_{unit_of(found)}": estimate["num_patients"],
                        },
                    )
