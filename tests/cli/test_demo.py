"""What `slicewise demo` says where no demo runs, and where the services of one have gone."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.fixtures.services import started

from slicewise.cli.main import main
from slicewise.cli.options import command_for
from slicewise.core.files import write_json
from slicewise.demo.logs import log_path, rotate_log
from slicewise.demo.state import DemoState, Service, write_state
from slicewise.engine.workspace import Workspace
from slicewise.steps.demo import ports, service_home


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


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """The logs of a demo that ended: 30 lines of each service, half of those of the API rotated."""
    folder = tmp_path / "logs"
    folder.mkdir()
    for name in ("api", "page"):
        path = log_path(folder, name)
        path.write_text("".join(f"{name} {number}\n" for number in range(15)))
        if name == "api":
            rotate_log(path)
        with path.open("a") as log:
            log.writelines(f"{name} {number}\n" for number in range(15, 30))
    return folder


def test_logs_prints_the_last_lines_and_where_they_lie(
    logs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "logs", "--workspace", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"api: {logs}/demo-api.log"
    assert lines[1:21] == [f"api  | api {number}" for number in range(10, 30)]
    assert lines[21:23] == [f"page: {logs}/demo-page.log", "page | page 10"]
    assert main(["demo", "logs", "page", "--lines", "2", "--workspace", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["page 28", "page 29"]
    assert main(["demo", "logs", "supervisor", "--workspace", str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith(f"no log of the supervisor in {logs}\n")


def test_follow_shows_new_lines_through_a_rotation_until_ctrl_c(logs: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "slicewise", "demo", "logs", "--follow", "--lines", "1"]
    command += ["--workspace", str(tmp_path)]
    with started(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # Programs that a shell starts in the background ignore Ctrl-C, and their children do.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(4)][1::2] == ["api  | api 29\n", "page | page 29\n"]
        path = log_path(logs, "api")
        with path.open("a") as log:
            log.write("before\n")
        rotate_log(path)
        path.write_text("after\n")
        assert [process.stdout.readline() for _ in range(2)] == ["api  | before\n", "api  | after\n"]
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == ""
        assert process.wait(10) == 130


def test_a_reader_that_goes_ends_follow(logs: Path, tmp_path: Path) -> None:
    command = f"{sys.executable} -m slicewise demo logs --follow --workspace {tmp_path}"
    with started(["bash", "-c", f"set -o pipefail; {command} | head -1"], stdout=-1) as process:
        path = log_path(logs, "page")
        deadline = time.monotonic() + 20
        while process.poll() is None:
            assert time.monotonic() < deadline
            with path.open("a") as log:
                log.write("more\n")
            time.sleep(0.2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["status", "api"], "go with `demo logs`, not with status"),
        (["stop", "--follow"], "go with `demo logs`, not with stop"),
        (["logs", "--lines", "-1"], "--lines -1 is negative"),
    ],
)
def test_options_of_logs_that_cannot_be_followed_are_named(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", *words, "--workspace", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_without_logs_the_folder_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "logs", "--workspace", str(tmp_path)]) == 1
    assert capsys.readouterr().out.startswith(f"no logs of a demo in {tmp_path / 'logs'}\nno demo of")


def test_status_names_the_service_that_does_not_respond(
    tmp_path: Path, stub_demo: Callable[..., DemoState], capsys: pytest.CaptureFixture[str]
) -> None:
    home = service_home(Workspace(tmp_path))
    home.mkdir(parents=True)
    state, status = stub_demo(), ["demo", "status", "--workspace", str(tmp_path)]
    write_state(home, state)
    assert main(status) == 1
    assert "no response from api and page" in (output := capsys.readouterr().out)
    assert "to start it: " in output
    with started(state.service("api").command, stdout=subprocess.PIPE) as api:
        assert api.stdout is not None
        api.stdout.readline()
        assert main(status) == 1
        assert capsys.readouterr().out.startswith("no response from page; the logs: slicewise demo logs")
        with started(state.service("page").command, stdout=subprocess.PIPE) as page:
            assert page.stdout is not None
            page.stdout.readline()
            assert main(status) == 0
            page.kill()
        assert f"page  {state.url}, 0 restarts" in capsys.readouterr().out
        api.kill()
    write_state(home, replace(state, error="api ended 11 times in a row"))
    assert main(status) == 1
    assert capsys.readouterr().out.startswith("api ended 11 times in a row\n")


def test_of_a_demo_in_the_foreground_the_logs_are_its_output(
    tmp_path: Path, stub_demo: Callable[..., DemoState], capsys: pytest.CaptureFixture[str]
) -> None:
    home = service_home(Workspace(tmp_path))
    home.mkdir(parents=True)
    state = stub_demo()
    services = tuple(replace(service, log_path="") for service in state.services)
    write_state(home, replace(state, services=services))
    assert main(["demo", "logs", "--workspace", str(tmp_path)]) == 1
    assert "are the output of `slicewise serve`" in capsys.readouterr().out
