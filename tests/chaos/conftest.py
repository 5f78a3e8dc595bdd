"""Ports for the demo."""

import socket

import pytest


@pytest.fixture
def free_ports() -> list[int]:
    """Return two ports that nobody listens on."""
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return [one.getsockname()[1], other.getsockname()[1]]
