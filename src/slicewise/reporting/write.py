"""The report as files."""

from pathlib import Path

from slicewise.core.files import write_json, write_text
from slicewise.reporting.card import render_card
from slicewise.reporting.facts import Folders, RunFacts
from slicewise.reporting.page import as_json, render
from slicewise.reporting.text import render_text


def write_run_report(folder: Path, run: RunFacts, folders: Folders) -> int:
    """Write report.html, .txt and .json and model_card.md into `folder`; return the bytes of the page.

    Raises:
        WorkspaceError: a file of the evaluation is missing or damaged.
    """
    page = render(run, folders)
    write_text(folder / "report.html", page)
    write_text(folder / "report.txt", render_text(run, folders))
    write_json(folder / "report.json", as_json(run))
    write_text(folder / "model_card.md", render_card(run, folders.evaluation))
    return len(page.encode())
