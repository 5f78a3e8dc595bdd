"""`model_card.md`: the model in the format of the Hugging Face hub."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from slicewise.core.files import read_json
from slicewise.domain.report import Table
from slicewise.domain.tables import resampling_unit
from slicewise.evaluation.score_tables import source_scores
from slicewise.evaluation.summary import headline_scores
from slicewise.metrics.table import score_key, score_label
from slicewise.reporting.html import TEMPLATES
from slicewise.reporting.run_info import RunInfo
from slicewise.reporting.sections import training_table
from slicewise.reporting.warnings import collect_warnings, selection_notes, uncalibrated_sources


def render_card(run: RunInfo, evaluation: Path) -> str:
    """Return the card: YAML front matter with the metrics, then the text.

    Raises:
        WorkspaceError: `metrics.json` in the folder `evaluation` is damaged.
    """
    metrics = read_json(evaluation / "metrics.json")
    tags = ["medical-imaging", "mri", "brain-tumour", "multi-task"]
    front_matter = ModelCardData(
        language="en",
        license="mit",
        library_name="pytorch",
        pipeline_tag="image-segmentation",
        tags=[*tags, *(["synthetic-data"] if run.synthetic else [])],
        model_name="slicewise-multitask",
        eval_results=list(_eval_results(run, metrics)),
    )
    lines = [
        (source, *line[:4])
        for source, scores in zip(metrics["sources"], source_scores(metrics), strict=True)
        for line in scores.headlines.rows
    ]
    head = ("source", "score", "value", "interval", "patients, or families of pictures")
    subsets = ("train", "val", "test")
    counts = [(source, *(str(count[name]) for name in subsets)) for source, count in run.counts.items()]
    text = TEMPLATES.get_template("model_card.md.j2").render(
        run=run,
        metrics=metrics,
        warnings=list(collect_warnings(run, metrics)),
        notes=selection_notes(metrics),
        raw=uncalibrated_sources(metrics),
        split=Table(("source", *subsets), counts).to_markdown(),
        scores=Table(head, lines).to_markdown(),
        training=training_table(run).to_markdown(),
    )
    return f"---\n{front_matter.to_yaml()}\n---\n\n{text}"


def _eval_results(run: RunInfo, metrics: Mapping[str, Any]) -> Iterator[EvalResult]:
    for source, entry in metrics["sources"].items():
        for metric, estimate in headline_scores(entry):
            if estimate["value"] is not None:
                yield EvalResult(
                    task_type=f"image-{'classification' if metric.level == 'pooled' else 'segmentation'}",
                    dataset_type=source,
                    dataset_name=f"{run.data_name}/{source}" + (" (synthetic)" if run.synthetic else ""),
                    dataset_split="test",
                    metric_type=score_key(metric),
                    metric_name=score_label(score_key(metric)),
                    metric_value=estimate["value"],
                    metric_args={
                        "interval": estimate["interval"],
                        "confidence": metrics["intervals"]["confidence"],
                        f"num_{resampling_unit(entry)}": estimate["num_patients"],
                    },
                )
