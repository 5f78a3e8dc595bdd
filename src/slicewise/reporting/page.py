"""`report.html`: the whole run on one page that needs neither network nor script."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from slicewise.config.show import to_yaml
from slicewise.core.files import read_json
from slicewise.evaluation.failures import FailedPatient, TraitRow
from slicewise.evaluation.gains import gain_text
from slicewise.evaluation.phase_report import score_name
from slicewise.evaluation.phases import PhaseRow
from slicewise.evaluation.rows import PatientRow, plural, population, read_rows, unit_of
from slicewise.reporting.facts import Folders, RunFacts
from slicewise.reporting.figures import read_figures
from slicewise.reporting.scores import (
    choice_notes,
    decision_of,
    headlines,
    interval_text,
    kept_epoch,
    number,
    p_text,
    raw_sources,
    scores,
    segmentation_lines,
    shared_notes,
    untrained,
    warnings,
    whole_patients,
    with_conditions,
)

TEMPLATES: Final = Path(__file__).parent / "templates"
MOST_PATIENTS: Final = 300
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


def render(run: RunFacts, folders: Folders) -> str:
    """Return the page: the same bytes for the same facts and files.

    Raises:
        WorkspaceError: a file of the evaluation is missing or damaged.
    """
    metrics = read_json(folders.evaluation / "metrics.json")
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            run=run,
            metrics=metrics,
            not_trained=metrics.get("not_trained", ()),
            warnings=list(warnings(run, metrics)),
            notes=choice_notes(metrics),
            raw=raw_sources(metrics),
            sources=[
                _source(name, found, metrics.get("not_trained", ()), decision_of(metrics, name))
                for name, found in metrics["sources"].items()
            ],
            choices=read_json(folders.evaluation / "calibration.json"),
            figures=read_figures(folders),
            tables=tables_of(folders),
            most_patients=MOST_PATIENTS,
            config=to_yaml(dict(run.config)),
            links=LINKS,
        )
    )


def as_json(run: RunFacts) -> dict[str, Any]:
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


def environment() -> Environment:
    """Return the templates. All that is filled in is escaped: names come from foreign files."""
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(number=number, p_text=p_text)
    made.globals.update(
        gain_text=gain_text,
        interval_text=interval_text,
        kept_epoch=kept_epoch,
        plural=plural,
        score_name=score_name,
    )
    return made


def _source(
    name: str, found: Mapping[str, Any], not_trained: Collection[str], decision: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {
        "name": name,
        "who": population(found["num_patients"], found["num_slices"]),
        "num_tumour_slices": found["num_tumour_slices"],
        "unit": unit_of(found),
        "headlines": with_conditions(headlines(found, not_trained), decision),
        "untrained": untrained(not_trained),
        "notes": shared_notes(found),
        "segmentation": with_conditions(segmentation_lines(found["segmentation"]), decision),
        "classification": with_conditions(scores(found["classification"]), decision),
        "whole_patients": whole_patients(found["patient_classification"]),
    }


def tables_of(folders: Folders) -> dict[str, Any]:
    """Return the rows that the report shows in full."""
    patients = read_rows(folders.evaluation / "patients.csv", PatientRow)
    return {
        "patients": sorted(patients, key=_worst_first),
        "phases": read_rows(folders.phases / "phase_comparison.csv", PhaseRow),
        "traits": read_rows(folders.failures / "traits.csv", TraitRow),
        "failed": read_rows(folders.failures / "patients.csv", FailedPatient),
    }


def _worst_first(row: PatientRow) -> tuple[str, float, float, str]:
    return row.source, 2.0 if row.dice is None else row.dice, row.slice_accuracy, row.patient
