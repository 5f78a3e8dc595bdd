"""Asking the services whether they are well. Standard library only: `slicewise plan` waits for the answer."""

import json
import socket
from pathlib import Path
from typing import Any

from slicewise.demo.state import ServiceState, read_state
from slicewise.serving.endpoints import HOST

_TIMEOUT_SECONDS = 2.0
_CHUNK = 1 << 16


def http_get(port: int, path: str, timeout: float = _TIMEOUT_SECONDS) -> bytes | None:
    """Return the body of a 200 answer from this machine, or None when there is no such answer.

    One HTTP/1.0 exchange (RFC 1945): `http.client` would take longer to import than the services to answer.
    """
    request = f"GET {path} HTTP/1.0\r\nHost: {HOST}:{port}\r\n\r\n".encode()
    try:
        with socket.create_connection((HOST, port), timeout) as connection:
            connection.sendall(request)
            response = b"".join(iter(lambda: connection.recv(_CHUNK), b""))
    except OSError:
        return None
    head, _, body = response.partition(b"\r\n\r\n")
    return body if head.split(maxsplit=2)[1:2] == [b"200"] else None


def served_fingerprint(service: ServiceState) -> str | None:
    """Return the fingerprint of the model the API says it has loaded, or None while it is not ready."""
    body = http_get(service.port, service.health_path)
    if body is None:
        return None
    try:
        response: Any = json.loads(body)
    except ValueError:
        return None
    fingerprint = response.get("fingerprint") if isinstance(response, dict) else None
    return fingerprint if isinstance(fingerprint, str) else None


def is_healthy(service: ServiceState) -> bool:
    """Return whether the service's health check succeeds."""
    return http_get(service.port, service.health_path) is not None


def is_alive(home: Path, fingerprint: str | None = None) -> bool:
    """Return whether the demo of `home` is up with both services and serves the expected model.

    Args:
        home: the folder that holds `demo.json`.
        fingerprint: of the checkpoint that must be served; None accepts the one the demo was started with.
    """
    state = read_state(home)
    if state is None or state.error or (fingerprint is not None and state.fingerprint != fingerprint):
        return False
    api = state.service("api")
    return served_fingerprint(api) == state.fingerprint and is_healthy(state.service("page"))
