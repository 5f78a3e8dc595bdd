"""`report.html`: the whole run on one page, without scripts or external files."""

from typing import Final

from slicewise.config.export import to_yaml
from slicewise.core.files import read_json
from slicewise.reporting.content import MAX_PATIENTS, read_tables, render_template
from slicewise.reporting.figures import read_figures
from slicewise.reporting.run_info import ResultFolders, RunInfo

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
"""The tables behind the page, relative to its folder in the workspace."""


def render_html(run: RunInfo, folders: ResultFolders) -> str:
    """Return the page: the same bytes for the same run and files.

    Raises:
        WorkspaceError: a file of the evaluation is missing or damaged.
    """
    return render_template(
        "report.html.j2",
        run,
        folders.evaluation,
        calibration=read_json(folders.evaluation / "calibration.json"),
        figures=read_figures(folders),
        tables=read_tables(folders),
        most_patients=MAX_PATIENTS,
        config=to_yaml(dict(run.config)),
        links=LINKS,
    )
