import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from slicewise.demo.state import Service, http_get, is_alive, served_fingerprint
from slicewise.serving import API_HEALTH, HOST


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """Answer one connection with these bytes; yield the port."""
    with socket.create_server((HOST, 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(5)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.0 200 OK\r\n\r\n", b""),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\nok", None),
        (b"SSH-2.0-OpenSSH_9.2\r\n", None),
        (b"", None),
    ],
)
def test_only_a_200_counts(answer: bytes, body: bytes | None) -> None:
    with answering(answer) as port:
        assert http_get(port, "/") == body


@pytest.mark.parametrize(
    ("body", "fingerprint"), [(b'{"fingerprint": "abc"}', "abc"), (b"{}", None), (b"[]", None), (b"ok", None)]
)
def test_the_fingerprint_is_read_from_the_health_answer(body: bytes, fingerprint: str | None) -> None:
    with answering(b"HTTP/1.1 200 OK\r\n\r\n" + body) as port:
        assert served_fingerprint(Service("api", port, API_HEALTH, "", None, 0)) == fingerprint


def test_nobody_there_is_not_alive(free_port: Callable[[], int], tmp_path: Path) -> None:
    assert http_get(free_port(), "/") is None
    assert not is_alive(tmp_path)


def test_a_server_that_hangs_is_given_up(free_port: Callable[[], int]) -> None:
    with socket.create_server((HOST, 0)) as silent:
        assert http_get(silent.getsockname()[1], "/", timeout=0.1) is None


def test_asking_costs_no_heavy_import() -> None:
    code = (
        "import sys; import slicewise.demo.state; "
        "print({'torch', 'numpy', 'psutil', 'pydantic', 'fastapi', 'http.client'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
