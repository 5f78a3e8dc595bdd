"""Health checks of the services. Standard library only, because `slicewise plan` runs them."""

import json
import socket
from pathlib import Path
from typing import Any

from slicewise.demo.state import Service, read_state
from slicewise.serving.endpoints import HOST


def http_get(port: int, path: str, timeout: float = 2.0) -> bytes | None:
    """Return the body of a 200 response from this machine, or None for any other outcome.

    One HTTP/1.0 exchange (RFC 1945): importing `http.client` would take longer than the request.
    `timeout` is in seconds.
    """
    request = f"GET {path} HTTP/1.0\r\nHost: {HOST}:{port}\r\n\r\n".encode()
    try:
        with socket.create_connection((HOST, port), timeout) as connection:
            connection.sendall(request)
            response = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    except OSError:
        return None
    head, _, body = response.partition(b"\r\n\r\n")
    return body if head.split(maxsplit=2)[1:2] == [b"200"] else None


def served_fingerprint(service: Service) -> str | None:
    """Return the fingerprint of the model that the API has loaded, or None while it is not ready."""
    try:
        response: Any = json.loads(http_get(service.port, service.health_path) or b"")
    except ValueError:
        return None
    fingerprint = response.get("fingerprint") if isinstance(response, dict) else None
    return fingerprint if isinstance(fingerprint, str) else None


def is_healthy(service: Service) -> bool:
    """Return whether the service's health check succeeds."""
    return http_get(service.port, service.health_path) is not None


def is_alive(home: Path, fingerprint: str | None = None) -> bool:
    """Return whether both services of the demo of `home` are healthy and serve the expected model.

    Args:
        home: the folder that holds `demo.json`.
        fingerprint: of the expected checkpoint; None accepts that with which the demo was started.
    """
    state = read_state(home)
    if state is None or state.error or (fingerprint is not None and state.fingerprint != fingerprint):
        return False
    api = state.service("api")
    return served_fingerprint(api) == state.fingerprint and is_healthy(state.service("page"))
