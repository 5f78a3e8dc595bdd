"""Ports for the demo."""

import socket

import pytest


@pytest.fixture
def free_ports() -> list[int]:
    """Return two free ports."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return [first.getsockname()[1], second.getsockname()[1]]
