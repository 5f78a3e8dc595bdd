"""`slicewise serve` as containers and systemd run it: a process of its own that ends at SIGTERM."""

import json
import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
import pytest
from tests.conftest import ROOT

from slicewise.cli.main import main
from slicewise.demo.lifecycle import is_free
from slicewise.demo.processes import STOP_GRACE_SECONDS, find_process
from slicewise.demo.state import http_get, read_state
from slicewise.engine.workspace import Workspace
from slicewise.steps.demo import service_home

SCRIPT = str(ROOT / "scripts" / "demo" / "run_multitask_demo.py")
QUICK = ("serving.phantom_cases=0", "runtime.device=cpu", "runtime.num_threads=1")


@contextmanager
def serving(
    root: Path, *words: str, program: tuple[str, ...] = ("-m", "slicewise", "serve")
) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run `slicewise serve`; yield the process and its output until it serves."""
    command = (sys.executable, *program, "--workspace", str(root), *QUICK, *words)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        lines: list[str] = []
        try:
            for line in process.stdout:
                lines.append(line)
                if line.startswith("serving "):
                    break
            else:
                pytest.fail("".join(lines))
            yield process, lines
        finally:
            process.terminate()
            process.stdout.read()


class FakeTerminal:
    """A pseudo-terminal, with what was printed to it."""

    def __init__(self) -> None:
        self.keyboard, self.screen = pty.openpty()
        self.printed = bytearray()
        self.reader = threading.Thread(target=self._read)

    def _read(self) -> None:
        with suppress(OSError):  # at the end of the last process
            while data := os.read(self.keyboard, 1 << 16):
                self.printed += data

    @contextmanager
    def run(self, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command as the foreground process of the terminal."""
        shell = ("setsid", "--ctty", *command)
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), self.screen)
        # A shell gives Ctrl-C to what it starts; this program may have been started in the background.
        hear_ctrl_c = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        with subprocess.Popen(shell, preexec_fn=hear_ctrl_c, **streams) as process:  # type: ignore[call-overload]
            os.close(self.screen)
            self.reader.start()
            try:
                yield process
            finally:
                process.terminate()
                process.wait(20)
        self.reader.join(10)
        os.close(self.keyboard)

    def press_ctrl_c(self) -> None:
        os.write(self.keyboard, b"\x03")

    def text(self) -> str:
        return self.printed.decode()

    def wait_for(self, text: str) -> None:
        wait_for(lambda: text in self.text())


def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def api_process(home: Path) -> psutil.Process:
    state = read_state(home)
    assert state is not None
    process = find_process(state.service("api").process)
    assert process is not None
    return process


def status_of(url: str, **headers: str) -> int:
    request = Request(url, headers={name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urlopen(request, timeout=10) as response:
            return int(response.status)
    except HTTPError as error:
        with error:
            return error.code


@pytest.mark.slow
def test_api_and_page_run_until_sigterm_and_restart_what_dies(
    checkpoint_path: Path, tmp_path: Path, free_port: Callable[[], int], capsys: pytest.CaptureFixture[str]
) -> None:
    port, page_port = free_port(), free_port()
    words = ("--port", str(port), f"serving.page_port={page_port}", "--checkpoint", str(checkpoint_path))
    home = service_home(Workspace(tmp_path))
    with serving(tmp_path, *words) as (process, lines):
        assert f"API at http://127.0.0.1:{port}, its documentation at http://127.0.0.1:{port}/docs\n" in lines
        assert f"page at http://127.0.0.1:{page_port}\n" in lines
        assert any("Uvicorn running" in line for line in lines), "the output has the logs of the services"
        state = read_state(home)
        assert state is not None
        assert state.supervisor is not None
        assert state.supervisor.pid == process.pid
        # One supervisor for both ways: the verbs of the demo see it, and a second one is refused.
        assert main(["demo", "status", "--workspace", str(tmp_path)]) == 0
        assert main(["serve", "--workspace", str(tmp_path), *words]) == 2
        assert "runs at" in capsys.readouterr().err
        page = state.service("page").process
        assert page is not None
        psutil.Process(page.pid).kill()
        deadline = time.monotonic() + 60
        while ((again := read_state(home)) is None) or again.service("page").restarts == 0:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        output = process.stdout.read() if process.stdout else ""
        assert process.wait(30) == 0
    assert output.endswith("stopped\n")
    assert "Traceback" not in output
    assert read_state(home) is None
    assert http_get(port, "/healthz") is None
    assert not any(psutil.pid_exists(service.process.pid) for service in state.services if service.process)


@pytest.mark.slow
def test_by_the_script_with_a_key_and_without_a_page_the_api_is_alone(
    checkpoint_path: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port, key = free_port(), tmp_path / "api.key"
    key.write_text("0123456789abcdef\n")
    words = ("--port", str(port), "--checkpoint", str(checkpoint_path), "--host", "127.0.0.2", "--no-page")
    with serving(tmp_path, *words, "--api-key-file", str(key), program=(SCRIPT,)) as (process, _):
        state = read_state(service_home(Workspace(tmp_path)))
        assert state is not None
        assert [service.url for service in state.services] == [f"http://127.0.0.2:{port}"]
        assert status_of(f"http://127.0.0.2:{port}/healthz") == 200
        assert status_of(f"http://127.0.0.2:{port}/model/info") == 401
        assert status_of(f"http://127.0.0.2:{port}/model/info", X_API_Key="0123456789abcdef") == 200
        assert http_get(port, "/healthz") is None, "127.0.0.1 is another address"
        process.send_signal(signal.SIGHUP)  # the terminal is closed
        assert process.wait(30) == 0
    assert is_free(port, "127.0.0.2")


@pytest.mark.slow
def test_in_a_terminal_a_killed_api_starts_again_and_a_second_ctrl_c_ends_what_hangs(
    checkpoint_path: Path, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    port, page_port = free_port(), free_port()
    home, terminal = service_home(Workspace(tmp_path)), FakeTerminal()
    words = ("--port", str(port), f"serving.page_port={page_port}", "--checkpoint", str(checkpoint_path))
    command = (sys.executable, "-m", "slicewise", "serve", "--workspace", str(tmp_path), *QUICK, *words)
    with terminal.run(command) as process:
        terminal.wait_for("Ctrl-C or SIGTERM stops it")
        api = api_process(home)
        api.kill()
        terminal.wait_for("api ended with exit code -9; restart in 0.5 s")
        wait_for(lambda: http_get(port, "/healthz") is not None)
        state = read_state(home)
        assert state is not None
        assert state.service("api").restarts == 1
        api_process(home).suspend()  # deaf to SIGTERM
        terminal.press_ctrl_c()
        time.sleep(0.6)
        assert process.poll() is None
        terminal.press_ctrl_c()
        assert process.wait(STOP_GRACE_SECONDS - 1) == 0  # without the second one it waits all of them
    assert terminal.text().rstrip().endswith("stopped")
    assert "Traceback" not in terminal.text()
    assert is_free(port)
    assert is_free(page_port)
    assert [find_process(process) for process in state.processes()] == [None, None]


@pytest.mark.slow
def test_a_damaged_checkpoint_ends_it_with_the_reason(tmp_path: Path, free_port: Callable[[], int]) -> None:
    path = tmp_path / "best_model.pth"
    path.write_bytes(b"not a checkpoint")
    command = (sys.executable, "-m", "slicewise", "serve", "--workspace", str(tmp_path), *QUICK, "--no-page")
    done = subprocess.run(
        [*command, "--port", str(free_port()), "--checkpoint", str(path)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "api ended during start-up; see its output above" in done.stderr
    assert "best_model.pth" in done.stdout + done.stderr
    assert read_state(service_home(Workspace(tmp_path))) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--checkpoint", "nowhere.pth"), "--checkpoint nowhere.pth is no file; name a best_model.pth"),
        ((), "no model is trained in"),
        (("--host", "example.org"), "host 'example.org' is no IPv4 address; write 127.0.0.1"),
        (("--host", "0.0.0.0"), "--api-key-file or serving.api_key_file, or leave the host at 127.0.0.1"),
        (("--host", "127.0.0.1", "serving.host=127.0.0.1"), "--host and serving.host= set the same"),
        (("--port", "80"), "serving.api_port"),
        (("--api-key-file", "nowhere.key"), "nowhere.key, the file of the API key, cannot be read"),
        (("quick",), "'quick' is neither an option nor key=value"),
    ],
)
def test_what_cannot_be_served_is_named(
    words: tuple[str, ...],
    message: str,
    checkpoint_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SLICEWISE_API_KEY_FILE", raising=False)
    model = ("--checkpoint", str(checkpoint_path)) if words and words[0] != "--checkpoint" else ()
    assert main(["serve", "--workspace", str(tmp_path), "serving.phantom_cases=0", *model, *words]) == 2
    assert message in capsys.readouterr().err


def test_the_script_has_the_options_of_serve_and_the_checkout_as_its_workspace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SLICEWISE_WORKSPACE", raising=False)
    done = subprocess.run([sys.executable, SCRIPT, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: slicewise serve [options]")
    command = [sys.executable, SCRIPT, "--checkpoint", "nowhere.pth"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "nowhere.pth is no file" in done.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_and_a_foreign_address_are_named(
    host: str,
    checkpoint_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    key = tmp_path / "api.key"
    key.write_text("0123456789abcdef")
    command = ["serve", "--workspace", str(tmp_path), "--checkpoint", str(checkpoint_path), *QUICK]
    command += ["--api-key-file", str(key), "--no-page"]
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert main([*command, "--host", host, "--port", port]) == 1
    assert f"port {port} is taken by another program" in capsys.readouterr().err
    assert main([*command, "--host", "192.0.2.1"]) == 2  # of documentation, RFC 5737
    assert "serving.host=192.0.2.1 is no address of this machine" in capsys.readouterr().err


def test_the_page_has_no_login_so_other_machines_get_it_only_where_it_is_typed(
    checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "api.key"
    key.write_text("0123456789abcdef")
    started: list[tuple[str, str | None, str | None]] = []

    def serve(
        config: object, home: Path, checkpoint: Path, *, page_host: str | None, announce: object
    ) -> None:
        serving_settings = json.loads(config.serving.model_dump_json())  # type: ignore[attr-defined]
        started.append((serving_settings["host"], page_host, serving_settings["api_key_file"]))

    monkeypatch.setattr("slicewise.demo.lifecycle.serve", serve)
    command = ["serve", "--workspace", str(tmp_path), "--checkpoint", str(checkpoint_path)]
    command += ["serving.phantom_cases=0", "--api-key-file", str(key)]
    for words, page_host, said in (
        ([], "127.0.0.1", ""),
        (["--no-page"], None, ""),
        (["--host", "0.0.0.0"], None, "no page: it has no login"),
        (["--host", "0.0.0.0", "--page"], "0.0.0.0", "the page has no login: whoever reaches port 8602"),
    ):
        assert main([*command, *words]) == 0
        assert started[-1] == ("0.0.0.0" if "--host" in words else "127.0.0.1", page_host, str(key))
        output = capsys.readouterr()
        assert said in output.out + output.err
