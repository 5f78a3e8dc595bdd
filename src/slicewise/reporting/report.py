"""The report as files."""

from dataclasses import asdict
from pathlib import Path

from slicewise.core.files import write_json, write_text
from slicewise.reporting.html import LINKS, render_html
from slicewise.reporting.model_card import render_card
from slicewise.reporting.run_info import ResultFolders, RunInfo
from slicewise.reporting.text import render_text


def write_report(folder: Path, run: RunInfo, folders: ResultFolders) -> int:
    """Write report.html, .txt and .json and model_card.md into `folder`; return the bytes of the page.

    Raises:
        WorkspaceError: a file of the evaluation is missing or damaged.
    """
    page = render_html(run, folders)
    write_text(folder / "report.html", page)
    write_text(folder / "report.txt", render_text(run, folders))
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
