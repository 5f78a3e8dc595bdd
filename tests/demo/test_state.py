from pathlib import Path

from slicewise.demo.state import (
    DemoState,
    ProcessIdentity,
    Service,
    read_state,
    state_path,
    write_state,
)

API = Service("api", 8601, "/healthz", "api.log", ProcessIdentity(12, 34.5), 2)
PAGE = Service("page", 8602, "/_stcore/health", "page.log", None, 0)
STATE = DemoState("builtin", ProcessIdentity(1, 2.0), "abc", "best_model.pth", (API, PAGE))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_state(tmp_path, STATE)
    assert read_state(tmp_path) == STATE


def test_no_state_and_a_damaged_one_are_none(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    write_state(tmp_path, STATE)
    impossible = state_path(tmp_path).read_text().replace("8601", "86010")
    for damaged in ("", "{", "[]", '{"services": 3}', '{"services": [], "supervisor": null}', impossible):
        state_path(tmp_path).write_text(damaged)
        assert read_state(tmp_path) is None


def test_urls_and_processes_come_from_the_services() -> None:
    assert STATE.service("api").url == "http://127.0.0.1:8601"
    assert STATE.url == "http://127.0.0.1:8602"
    assert STATE.processes() == (ProcessIdentity(12, 34.5),)
