"""The report of the tiny pipeline, and its facts read back, so that it can be rendered again with others."""

from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.conftest import Pipeline

from slicewise.core.files import read_json
from slicewise.reporting.run import ResultFolders, RunInfo, StepInfo

STAGES = ("seg_warmup", "cls_head", "joint")


@dataclass(frozen=True)
class Made:
    """What the pipeline wrote, and what it was written from."""

    workspace: Path
    run: RunInfo
    folders: ResultFolders

    @property
    def home(self) -> Path:
        return self.workspace / "results" / "report"

    @property
    def page(self) -> str:
        return (self.home / "report.html").read_text(encoding="utf-8")


class Document(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.text += " "  # cells of a table stand apart
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, attribute: str) -> list[str]:
        return [found[attribute] for name, found in self.elements if name == tag and attribute in found]


@pytest.fixture(scope="session")
def made(trained: Pipeline) -> Made:
    root = trained.workspace
    known = read_json(root / "results" / "report" / "report.json")
    run = RunInfo(
        training_mode=known["training_mode"],
        data_name=known["data"],
        synthetic=known["synthetic"],
        config=known["config"],
        config_fingerprint=known["config_fingerprint"],
        reproduce=known["reproduce"],
        counts=known["split"],
        steps=tuple(StepInfo(**step) for step in known["steps"]),
    )
    folders = ResultFolders(
        evaluation=root / "results" / "multitask_evaluation",
        stage_comparison=root / "results" / "phase_comparison",
        failures=root / "results" / "failures",
        ablations=root / "results" / "ablations",
        gradcam=root / "visualizations" / "multitask_gradcam",
        stages={stage: root / "checkpoints" / f"multitask_{stage}" for stage in STAGES},
    )
    return Made(root, run, folders)
