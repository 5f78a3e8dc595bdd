"""The notebooks run from top to bottom, on the public Python interface, and are kept without outputs."""

import ast
import csv
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from tests.scripts import ROOT

from slicewise.core.files import read_json

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PUBLIC = {"slicewise.experiment", "slicewise.inference.pipeline", "slicewise.inference.submission"}


def read(path: Path) -> nbformat.NotebookNode:
    content: nbformat.NotebookNode = nbformat.reads(  # type: ignore[no-untyped-call]
        path.read_text(encoding="utf-8"), as_version=4
    )
    return content


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_no_outputs_and_imports_the_public_interface_alone(path: Path) -> None:
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    nodes = [node for cell in cells for node in ast.walk(ast.parse(cell.source))]
    modules = {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    assert {name for name in modules if name.startswith("slicewise")} <= PUBLIC


def test_the_quickstart_trains_predicts_and_writes_a_submission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLICEWISE_CONFIGS", str(ROOT / "configs"))
    notebook = read(ROOT / "notebooks" / "quickstart.ipynb")
    NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    ).execute()
    metrics = read_json(tmp_path / "quickstart" / "results" / "multitask_evaluation" / "metrics.json")
    assert metrics["sources"]["shapes"]["segmentation"]["dice_per_patient"]["value"] > 0.85
    with (tmp_path / "quickstart" / "submission.csv").open(encoding="utf-8", newline="") as stream:
        header, *lines = csv.reader(stream)
    assert header == ["ImageId", "EncodedPixels"]
    assert len(lines) == 10
    assert all(runs for _, runs in lines)
