"""The report as files."""

from dataclasses import asdict
from pathlib import Path

from slicewise.core.files import write_json, write_text
from slicewise.domain.report import to_text
from slicewise.reporting.html import to_html
from slicewise.reporting.model_card import render_card
from slicewise.reporting.run_info import ResultFolders, RunInfo
from slicewise.reporting.sections import LINKS, build_report


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
    write_text(folder / "model_card.md", render_card(run, folders.evaluation))
    return len(page.encode())
