"""What the renderings of the report share: tables and Jinja templates."""

from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from slicewise.core.files import read_json
from slicewise.domain.tables import ComparisonRow, PatientRow, TraitRow, plural, read_rows
from slicewise.evaluation.comparison.output import gain_text, to_cells
from slicewise.reporting.run_info import ResultFolders, RunInfo
from slicewise.reporting.scores import (
    format_best_epoch,
    format_interval,
    format_number,
    source_scores,
)
from slicewise.reporting.warnings import collect_warnings, selection_notes, uncalibrated_sources

_TEMPLATES: Final = Path(__file__).parent / "templates"
MAX_PATIENTS: Final = 300


def read_tables(folders: ResultFolders) -> dict[str, Any]:
    """Return the rows that the report shows; patients sorted by source and Dice, those without Dice last."""
    patients = read_rows(folders.evaluation / "patients.csv", PatientRow)
    return {
        "patients": sorted(
            patients,
            key=lambda row: (
                row.source,
                2.0 if row.dice is None else row.dice,
                row.slice_accuracy,
                row.patient,
            ),
        ),
        "stage_comparison": to_cells(
            read_rows(folders.stage_comparison / "phase_comparison.csv", ComparisonRow)
        ),
        "traits": read_rows(folders.failures / "traits.csv", TraitRow),
        "failed": read_rows(folders.failures / "patients.csv", PatientRow),
    }


def render_template(name: str, run: RunInfo, evaluation: Path, **content: Any) -> str:
    """Return a template filled with the run, its scores and `content`.

    Everything is escaped, because names come from foreign files.

    Raises:
        WorkspaceError: `metrics.json` in the folder `evaluation` is damaged.
    """
    templates = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters.update(format_number=format_number)
    metrics = read_json(evaluation / "metrics.json")
    return templates.get_template(name).render(
        format_best_epoch=format_best_epoch,
        format_interval=format_interval,
        gain_text=gain_text,
        plural=plural,
        run=run,
        metrics=metrics,
        tasks=metrics["tasks"],
        warnings=list(collect_warnings(run, metrics)),
        notes=selection_notes(metrics),
        raw=uncalibrated_sources(metrics),
        sources=source_scores(metrics),
        **content,
    )
