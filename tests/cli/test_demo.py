"""What `slicewise demo` says where no demo runs, and where the services of one have gone."""

import sys
from pathlib import Path

import pytest

from slicewise.cli.main import main
from slicewise.cli.options import command_for
from slicewise.core.files import write_json
from slicewise.demo.state import DemoState, Service, write_state
from slicewise.engine.workspace import Workspace
from slicewise.steps.demo import ports


@pytest.fixture(autouse=True)
def _called_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["slicewise"])


@pytest.mark.parametrize("action", ["status", "stop"])
def test_where_no_demo_runs_the_exit_code_is_1(
    action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", action, "--workspace", str(tmp_path)]) == 1
    assert capsys.readouterr().out == (
        f"no demo of {tmp_path} is running; to start it: slicewise run --mode demo --workspace {tmp_path}\n"
    )


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (
            "here/slicewise run --workspace w --training-mode baseline --force all data=lgg 'a.b=c d'",
            "--training-mode baseline data=lgg 'a.b=c d' ",
        ),
        ("slicewise run --until report --yes seed=3", "seed=3 "),
        ("slicewise run --folds 3 split.folds=3", ""),
        (
            "python scripts/run_full_pipeline.py --training-mode baseline seed=4",
            "--training-mode baseline seed=4 ",
        ),
        ("slicewise ablate tumour", ""),
        ("slicewise run --of-another-version", ""),
    ],
)
def test_the_command_that_starts_it_has_the_settings_of_the_last_run(
    typed: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_json(tmp_path / "pipeline_results.json", {"command": typed})
    assert main(["demo", "status", "--workspace", str(tmp_path)]) == 1
    assert (
        capsys.readouterr().out.rstrip().endswith(f"slicewise run --mode demo {words}--workspace {tmp_path}")
    )


def test_a_demo_whose_processes_have_gone_is_stopped_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Workspace(tmp_path).service("demo")
    home.mkdir(parents=True)
    services = tuple(Service(name, 1, "/", "", None, 0) for name in ("api", "page"))
    write_state(home, DemoState("builtin", None, "f", "c.pth", services))
    assert ports(Workspace(tmp_path)) == frozenset()
    assert main(["demo", "stop", "--workspace", str(tmp_path)]) == 0
    assert "demo stopped" in capsys.readouterr().out
    assert main(["demo", "stop", "--workspace", str(tmp_path)]) == 1


def test_a_command_names_the_workspace_unless_it_is_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    there = Workspace(Path("/some where"))
    assert command_for(there, "demo", "stop") == "slicewise demo stop --workspace '/some where'"
    assert command_for(Workspace(Path()), "demo", "stop") == "slicewise demo stop"
    monkeypatch.setenv("SLICEWISE_WORKSPACE", "/some where")
    assert command_for(there, "demo", "stop") == "slicewise demo stop"


def test_a_script_with_a_workspace_of_its_own_names_it_to_whoever_stands_elsewhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts/run_full_pipeline.py"])
    monkeypatch.setenv("SLICEWISE_WORKSPACE", str(tmp_path))
    output = command_for(Workspace(tmp_path), "demo", "stop")
    assert output == f"slicewise demo stop --workspace {tmp_path}"
    monkeypatch.chdir(tmp_path)
    assert command_for(Workspace(tmp_path), "demo", "stop") == "slicewise demo stop"
