"""The last screen shows what this run made or reused, and nothing that lies there from another one."""

from pathlib import Path

import pytest

from slicewise.cli.run import show_summary
from slicewise.config.compose import compose
from slicewise.engine.record import RunRecord, StepRecord, StepStatus
from slicewise.engine.workspace import Workspace

REPORT = "results/report/report.html"
MODEL = "checkpoints/multitask_joint/best_model.pth"


@pytest.mark.parametrize(
    ("joint", "report", "shown", "hidden"),
    [
        ("completed", "skipped", MODEL, REPORT),
        ("reused", "completed", REPORT, "cross_validation"),
        ("skipped", "skipped", "pipeline_results.json", MODEL),
    ],
)
def test_only_outputs_of_steps_that_took_part_are_shown(
    joint: StepStatus, report: StepStatus, shown: str, hidden: str,
    tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for path in (REPORT, MODEL, "results/cross_validation/report.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    steps = {
        "train.joint": StepRecord(joint),
        "evaluate": StepRecord("skipped"),
        "report": StepRecord(report),
    }
    show_summary(RunRecord(tmp_path / "r.json", {}, steps), compose([]), Workspace(tmp_path))
    output = capsys.readouterr().out
    assert shown in output
    assert hidden not in output
