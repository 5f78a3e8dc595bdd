"""`report.html`: the whole run on one page that needs neither network nor script."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from slicewise.config.export import to_yaml
from slicewise.core.files import read_json
from slicewise.domain.scores import StageRow, score_name
from slicewise.domain.tables import (
    FailedPatient,
    PatientRow,
    TraitRow,
    describe_counts,
    plural,
    read_rows,
    resampling_unit,
)
from slicewise.evaluation.comparison.stage_gains import gain_text
from slicewise.reporting.figures import read_figures
from slicewise.reporting.run_info import ResultFolders, RunInfo
from slicewise.reporting.scores import (
    collect_warnings,
    format_best_epoch,
    format_interval,
    format_number,
    format_p_value,
    get_decision,
    headline_scores,
    patient_level_scores,
    section_scores,
    segmentation_scores,
    selection_notes,
    shared_notes,
    uncalibrated_sources,
    untrained_scores,
    with_thresholds,
)

TEMPLATES: Final = Path(__file__).parent / "templates"
MAX_PATIENTS: Final = 300
LINKS: Final = {
    "metrics": "../multitask_evaluation/metrics.json",
    "text": "../multitask_evaluation/report.txt",
    "patients": "../multitask_evaluation/patients.csv",
    "slices": "../multitask_evaluation/slices.csv",
    "calibration": "../multitask_evaluation/calibration.json",
    "phases": "../phase_comparison/phase_comparison.csv",
    "failures": "../failures/slices.csv",
    "traits": "../failures/traits.csv",
    "gradcam": "../../visualizations/multitask_gradcam/explanations.csv",
    "subsets": "../ablations/modality_subsets.csv",
    "model_card": "model_card.md",
}
"""The tables behind the page, from the folder it lies in within the workspace."""


def render_html(run: RunInfo, folders: ResultFolders) -> str:
    """Return the page: the same bytes for the same facts and files.

    Raises:
        WorkspaceError: a file of the evaluation is missing or damaged.
    """
    metrics = read_json(folders.evaluation / "metrics.json")
    return (
        template_environment()
        .get_template("report.html.j2")
        .render(
            run=run,
            metrics=metrics,
            not_trained=metrics.get("not_trained", ()),
            warnings=list(collect_warnings(run, metrics)),
            notes=selection_notes(metrics),
            raw=uncalibrated_sources(metrics),
            sources=[
                _source_section(name, found, metrics.get("not_trained", ()), get_decision(metrics, name))
                for name, found in metrics["sources"].items()
            ],
            choices=read_json(folders.evaluation / "calibration.json"),
            figures=read_figures(folders),
            tables=read_tables(folders),
            most_patients=MAX_PATIENTS,
            config=to_yaml(dict(run.config)),
            links=LINKS,
        )
    )


def build_json(run: RunInfo) -> dict[str, Any]:
    """Return the provenance for programs; figures stand in the linked files."""
    return {
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


def template_environment() -> Environment:
    """Return the templates. All that is filled in is escaped: names come from foreign files."""
    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters.update(number=format_number, p_text=format_p_value)
    templates.globals.update(
        gain_text=gain_text,
        interval_text=format_interval,
        kept_epoch=format_best_epoch,
        plural=plural,
        score_name=score_name,
    )
    return templates


def _source_section(
    name: str, found: Mapping[str, Any], not_trained: Collection[str], decision: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {
        "name": name,
        "who": describe_counts(found["num_patients"], found["num_slices"]),
        "num_tumour_slices": found["num_tumour_slices"],
        "unit": resampling_unit(found),
        "headlines": with_thresholds(headline_scores(found, not_trained), decision),
        "untrained": untrained_scores(not_trained),
        "notes": shared_notes(found),
        "segmentation": with_thresholds(segmentation_scores(found["segmentation"]), decision),
        "classification": with_thresholds(section_scores(found["classification"]), decision),
        "whole_patients": patient_level_scores(found["patient_classification"]),
    }


def read_tables(folders: ResultFolders) -> dict[str, Any]:
    """Return the rows that the report shows in full."""
    patients = read_rows(folders.evaluation / "patients.csv", PatientRow)
    return {
        "patients": sorted(patients, key=_by_dice),
        "phases": read_rows(folders.phases / "phase_comparison.csv", StageRow),
        "traits": read_rows(folders.failures / "traits.csv", TraitRow),
        "failed": read_rows(folders.failures / "patients.csv", FailedPatient),
    }


def _by_dice(row: PatientRow) -> tuple[str, float, float, str]:
    return row.source, 2.0 if row.dice is None else row.dice, row.slice_accuracy, row.patient
