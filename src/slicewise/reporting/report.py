"""The report as files: `report.html` on one page without scripts; text, JSON, and a model card."""

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json, write_json, write_text
from slicewise.domain.labels import CLASSIFICATION, SEGMENTATION
from slicewise.domain.report import Report, Table, to_text
from slicewise.domain.tables import resampling_unit
from slicewise.domain.wording import is_of_objects, reword
from slicewise.evaluation.report import source_scores
from slicewise.evaluation.summary import headline_scores
from slicewise.metrics.table import score_key, score_label
from slicewise.reporting.model import describe_model, describe_preparation
from slicewise.reporting.patients import LINKS
from slicewise.reporting.run import (
    ResultFolders,
    RunInfo,
    collect_warnings,
    selected_settings,
    selection_notes,
    uncalibrated_sources,
)
from slicewise.reporting.sections import build_report
from slicewise.reporting.tables import split_table, training_table

_LONG: Final = 20_000
"""Longer values are pictures."""
TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,  # names come from foreign files
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    finalize=lambda value: reword(value) if type(value) is str and len(value) < _LONG else value,
)
_WIDE, _HALF = 1400, 1000
_QUALITY: Final = 84
_MAX_HEIGHT: Final = 6000


def write_report(folder: Path, run: RunInfo, folders: ResultFolders) -> int:
    """Write report.html, .txt and .json and model_card.md into `folder`; return the bytes of the page.

    Raises:
        WorkspaceError: a file of the evaluation is missing or damaged.
    """
    report = build_report(run, folders)
    page = to_html(report)
    write_text(folder / "report.html", page)
    write_text(folder / "report.txt", to_text(report))
    provenance = {
        "training_mode": run.training_mode,
        "data": run.data_name,
        "synthetic": run.synthetic,
        "seeds": run.seeds,
        "config_fingerprint": run.config_fingerprint,
        "reproduce": run.reproduce,
        "split": run.counts,
        "steps": [asdict(step) for step in run.steps],
        "config": run.config,
        "links": LINKS,
    }
    write_json(folder / "report.json", provenance)
    if folders.stages:  # the card of a model comes with its training
        write_text(folder / "model_card.md", render_card(run, folders.evaluation))
    return len(page.encode())


def to_html(report: Report) -> str:
    """Return the page; neighbouring figures share a grid."""
    sections = [
        (section, [(kind, [*blocks]) for kind, blocks in groupby(section.blocks, lambda block: block.kind)])
        for section in report.sections
    ]
    return TEMPLATES.get_template("report.html.j2").render(
        report=report, sections=sections, data_uri=data_uri
    )


def data_uri(path: Path, *, wide: bool) -> str:
    """Return a picture as `data:image/webp;base64,...`, shrunk to the width of the page or half of it.

    WebP takes a quarter of the bytes of PNG here; every browser since 2020 shows it.

    Raises:
        WorkspaceError: the file is missing or not a picture.
    """
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise WorkspaceError(f"{path} cannot be read ({error}); run again with --force evaluate") from error
    picture.thumbnail((_WIDE if wide else _HALF, _MAX_HEIGHT), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=_QUALITY, method=4)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def render_card(run: RunInfo, evaluation: Path) -> str:
    """Return the card: YAML front matter with the metrics, then the text."""
    metrics = read_json(evaluation / "metrics.json")
    tags = [] if is_of_objects() else ["medical-imaging", "mri", "brain-tumour"]
    tags += ["multi-task"] if len(metrics["tasks"]) > 1 else []
    segments = SEGMENTATION in metrics["tasks"]
    front_matter = ModelCardData(
        language="en",
        license="mit",
        library_name="pytorch",
        pipeline_tag=f"image-{SEGMENTATION if segments else CLASSIFICATION}",
        tags=[*tags, *(["synthetic-data"] if run.synthetic else [])],
        model_name=f"slicewise-{run.config['recipe']}",
        eval_results=list(_eval_results(run, metrics)),
    )
    lines = [
        (source, *line[:4])
        for source, scores in zip(metrics["sources"], source_scores(metrics), strict=True)
        for line in scores.headlines.rows
    ]
    head = ("source", "score", "value", "interval", "patients, or families of pictures")
    text = TEMPLATES.get_template("model_card.md.j2").render(
        run=run,
        metrics=metrics,
        medical=not is_of_objects(),
        title=f"SliceWise {'multi-task model' if len(metrics['tasks']) > 1 else 'model'}",
        description=describe_model(run.config["tasks"]),
        preparation=describe_preparation(run.config["preprocessing"]),
        warnings=list(collect_warnings(run, metrics)),
        selected=selected_settings(metrics),
        notes=selection_notes(metrics),
        raw=uncalibrated_sources(metrics),
        split=split_table(run).to_markdown(),
        scores=Table(head, lines).to_markdown(),
        training=training_table(run).to_markdown(),
    )
    return f"---\n{reword(front_matter.to_yaml())}\n---\n\n{reword(text)}"


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
