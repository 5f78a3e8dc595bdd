"""PM2 for real where it is installed, and a small script that keeps its promises where it is not."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slicewise.core.errors import ServingError
from slicewise.demo import pm2
from slicewise.demo.logs import log_path
from slicewise.demo.processes import find_process
from slicewise.demo.state import DemoState, Service, is_alive, read_state
from slicewise.serving import HOST

FAKE_PM2 = """#!{python}
import json, os, signal, subprocess, sys
from pathlib import Path

table = Path({table!r})
apps = json.loads(table.read_text()) if table.exists() else {{}}

def alive(pid):
    try:
        return Path(f"/proc/{{pid}}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False

verb, target = sys.argv[1], (sys.argv[2:] or [""])[0]
print("[PM2] chatting before it answers")
if verb == "start":
    for app in json.loads(Path(target).read_text())["apps"]:
        with open(app["out_file"], "ab") as log:
            popen = subprocess.Popen([app["script"], *app["args"]], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, cwd=app["cwd"], env=os.environ | app["env"], start_new_session=True)
        apps[app["name"]] = popen.pid
elif verb == "jlist":
    status = lambda pid: "online" if alive(pid) else "errored"
    print(json.dumps([{{"name": name, "pid": pid, "pm2_env": {{"status": status(pid), "restart_time": 0}}}}
        for name, pid in apps.items()]))
elif verb == "delete":
    if target not in apps:
        sys.exit(1)
    pid = apps.pop(target)
    if alive(pid):
        os.kill(pid, signal.SIGTERM)
table.write_text(json.dumps(apps))
"""

MakeDemo = Callable[..., DemoState]


@pytest.fixture
def fake_pm2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "pm2"
    script.write_text(FAKE_PM2.format(python=sys.executable, table=str(tmp_path / "table.json")))
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def check_lifecycle(demo: DemoState, home: Path) -> None:
    state = pm2.launch(replace(demo, kind="pm2"), home)
    try:
        wait_for(lambda: is_alive(home, "abc"))
        state = pm2.refresh(state, home)
        assert len(state.processes()) == 2
        assert all(service.restarts == 0 for service in state.services)
        assert read_state(home) is not None
    finally:
        pm2.stop(state, home)
    assert not is_alive(home)
    assert [find_process(process) for process in state.processes()] == [None, None]
    assert pm2.refresh(state, home).processes() == ()


@pytest.mark.usefixtures("fake_pm2")
@pytest.mark.skipif(sys.platform != "linux", reason="the stand-in for PM2 reads /proc")
def test_lifecycle_under_the_stand_in(stub_demo: MakeDemo, home: Path) -> None:
    check_lifecycle(stub_demo(), home)


@pytest.mark.usefixtures("real_pm2")
def test_lifecycle_under_pm2(stub_demo: MakeDemo, home: Path) -> None:
    check_lifecycle(stub_demo(), home)


@pytest.mark.usefixtures("real_pm2")
def test_pm2_restarts_what_is_killed_and_the_log_goes_on(
    stub_demo: MakeDemo, home: Path, free_port: Callable[[], int]
) -> None:
    path, port = log_path(home, "api"), free_port()
    module = ("http.server", str(port), "--bind", HOST, "--directory", str(home))
    command = (sys.executable, "-u", "-m", "slicewise.demo.logs", str(path), *module)
    api = Service("api", port, "/", str(path), command=command)
    state = pm2.launch(replace(stub_demo(), kind="pm2", services=(api,)), home)
    try:
        wait_for(lambda: api.is_healthy)
        killed = pm2.refresh(state, home).service("api").process
        assert killed is not None
        os.kill(killed.pid, signal.SIGKILL)
        wait_for(lambda: pm2.refresh(state, home).service("api").restarts == 1 and api.is_healthy)
        restarted = pm2.refresh(state, home).service("api").process
        assert restarted not in (None, killed)
    finally:
        pm2.stop(state, home)
    assert find_process(restarted) is None
    log = path.read_text()
    assert log.count("Serving HTTP on") == 2
    assert '"GET / HTTP/1.0" 200' in log
    assert "Traceback" not in log


@pytest.mark.usefixtures("fake_pm2")
@pytest.mark.skipif(sys.platform != "linux", reason="the stand-in for PM2 reads /proc")
def test_a_service_that_ends_counts_as_restarted(stub_demo: MakeDemo, home: Path) -> None:
    state = pm2.launch(stub_demo((sys.executable, "-c", "raise SystemExit(3)")), home)
    try:
        time.sleep(0.5)
        api = pm2.refresh(state, home).service("api")
        assert api.process is None
        assert api.restarts > 0
    finally:
        pm2.stop(state, home)


def test_names_differ_between_workspaces(tmp_path: Path) -> None:
    one, other = (pm2.app_name("api", tmp_path / name) for name in ("one", "other"))
    assert one.startswith("slicewise-api-")
    assert one != other
    assert one == pm2.app_name("api", tmp_path / "one")


def test_the_ecosystem_starts_python_itself_and_keeps_one_log(stub_demo: MakeDemo, home: Path) -> None:
    demo = stub_demo()
    app = json.loads(json.dumps(pm2.ecosystem(demo, home)))["apps"][0]
    assert [app["script"], *app["args"]] == list(demo.services[0].command)
    assert app["interpreter"] == "none"
    assert app["out_file"] == app["error_file"] == demo.services[0].log_path


@pytest.mark.parametrize(
    ("output", "num_apps"),
    [
        ("[]", 0),
        ("[PM2] Spawning PM2 daemon\n[]\n", 0),
        ('[PM2] hello\n[{"name": "a"}]\nupdate me', 1),
        ("", 0),
    ],
)
def test_jlist_is_read_among_chatter(output: str, num_apps: int) -> None:
    assert len(pm2.parse_jlist(output)) == num_apps


def test_a_missing_pm2_is_named_with_the_way_out(
    stub_demo: MakeDemo, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not pm2.is_installed()
    with pytest.raises(ServingError, match=r"serving\.supervisor=builtin"):
        pm2.launch(stub_demo(), home)
