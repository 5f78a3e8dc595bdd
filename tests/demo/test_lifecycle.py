"""The demo from start to stop, with the real API and the real page."""

import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest

from slicewise.config.compose import compose
from slicewise.config.schema import Config
from slicewise.core.errors import ServingError
from slicewise.demo import pm2, supervisor
from slicewise.demo.lifecycle import start_demo, stop_demo
from slicewise.demo.processes import find_process
from slicewise.demo.state import DemoState, SupervisorKind, http_get, is_alive, read_state
from slicewise.serving import HOST

FINGERPRINT = "f" * 64

MakeSettings = Callable[..., Config]


@pytest.fixture
def settings(free_port: Callable[[], int]) -> MakeSettings:
    def make(supervisor: Literal["auto", "pm2", "builtin"] = "builtin", **changes: float) -> Config:
        values = {"startup_seconds": 90, "max_upload_mib": 8, "phantom_cases": 1, **changes}
        ports = {"api_port": free_port(), "page_port": free_port()}
        serving = compose([]).serving.model_copy(update={**ports, "supervisor": supervisor, **values})
        return compose(["runtime.device=cpu"]).model_copy(update={"serving": serving})

    return make


@pytest.fixture
def home(tmp_path: Path, checkpoint_path: Path, cases_dir: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    shutil.copy(checkpoint_path, folder / "best_model.pth")
    (folder / "cases").symlink_to(cases_dir)
    return folder


def crashed_once(home: Path) -> bool:
    state = read_state(home)
    return state is not None and state.service("page").restarts == 1


def test_start_status_crash_replace_and_stop(
    settings: MakeSettings,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "4")  # as many hosts set it for whatever they run
    chosen = settings()
    started = start_demo(chosen, home, tmp_path / "logs", fingerprint=FINGERPRINT)
    try:
        assert is_alive(home, FINGERPRINT)
        assert not is_alive(home, "0" * 64)
        assert b"SliceWise" in (http_get(chosen.serving.api_port, "/openapi.json") or b"")

        page = started.service("page").process
        assert page is not None
        os.kill(page.pid, signal.SIGKILL)
        deadline = time.monotonic() + 60
        while not (is_alive(home) and crashed_once(home)):
            assert time.monotonic() < deadline, "the page was not started again"
            time.sleep(0.1)
        status = read_state(home)
        assert status is not None
        assert status.service("api").restarts == 0
    finally:
        assert stop_demo(home)
    running = [started.supervisor, *started.processes(), *status.processes()]
    assert [process and find_process(process) for process in running] == [None] * 5
    assert read_state(home) is None
    assert not stop_demo(home)


@pytest.mark.slow
def test_a_service_that_ends_while_starting_is_quoted_and_nothing_stays(
    settings: MakeSettings,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")  # of the terminal; the log is in UTF-8
    home = home.rename(tmp_path / "größe")
    (home / "best_model.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(ServingError, match=r"api ended during start-up[\s\S]*größe/best_model\.pth"):
        start_demo(settings(), home, tmp_path / "logs", fingerprint=FINGERPRINT)
    assert read_state(home) is None


def test_a_taken_port_is_named_with_the_key_to_change(
    settings: MakeSettings, home: Path, tmp_path: Path
) -> None:
    chosen = settings()
    with socket.socket() as other:
        other.bind((HOST, chosen.serving.page_port))
        other.listen()
        with pytest.raises(ServingError, match=rf"port {chosen.serving.page_port} .* serving\.page_port=\d+"):
            start_demo(chosen, home, tmp_path / "logs", fingerprint=FINGERPRINT)
    assert read_state(home) is None


def test_one_port_for_both_is_refused(settings: MakeSettings, home: Path, tmp_path: Path) -> None:
    chosen = settings()
    same = chosen.serving.model_copy(update={"page_port": chosen.serving.api_port})
    chosen = chosen.model_copy(update={"serving": same})
    with pytest.raises(ServingError, match="are both"):
        start_demo(chosen, home, tmp_path / "logs", fingerprint=FINGERPRINT)


def test_too_little_time_is_said_with_the_key_to_change(
    settings: MakeSettings, home: Path, tmp_path: Path
) -> None:
    with pytest.raises(ServingError, match=r"within 0\.3 s[\s\S]*serving\.startup_seconds=180"):
        start_demo(settings(startup_seconds=0.3), home, tmp_path / "logs", fingerprint=FINGERPRINT)
    assert read_state(home) is None


@pytest.mark.parametrize(("on_path", "kind"), [(True, "pm2"), (False, "builtin")])
def test_auto_is_pm2_where_it_is_on_the_path_else_the_own_supervisor(
    on_path: bool,
    kind: SupervisorKind,
    settings: MakeSettings,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if on_path:
        (tmp_path / "pm2").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))

    def launch(state: DemoState, _home: Path) -> DemoState:
        raise ServingError(f"launched by {state.kind}")

    monkeypatch.setattr({"pm2": pm2, "builtin": supervisor}[kind], "launch", launch)
    with pytest.raises(ServingError, match=f"launched by {kind}"):
        start_demo(settings("auto"), home, tmp_path / "logs", fingerprint=FINGERPRINT)


@pytest.mark.slow
@pytest.mark.usefixtures("real_pm2")
def test_auto_takes_pm2_where_it_is_installed_and_refuses_another_model(
    settings: MakeSettings,
    home: Path,
    tmp_path: Path,
) -> None:
    try:
        state = start_demo(settings("auto"), home, tmp_path / "logs", fingerprint=FINGERPRINT)
        assert state.kind == "pm2"
        # The same home again: the old demo goes, and a model other than the expected one is not accepted.
        with pytest.raises(ServingError, match=r"serves model ffffffffffff, not 000000000000"):
            start_demo(settings("auto"), home, tmp_path / "logs", fingerprint="0" * 64)
        assert [find_process(process) for process in state.processes()] == [None, None]
        assert read_state(home) is None
    finally:
        stop_demo(home)
