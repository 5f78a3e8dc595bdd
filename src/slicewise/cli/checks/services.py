"""What the demo needs of the machine: ports and a supervisor."""

import shutil
import socket
from collections.abc import Collection

from slicewise.cli.checks.check import Check
from slicewise.config.schema import Config
from slicewise.serving.endpoints import HOST

_NO_DEMO = "not needed: this run does not include the demo"


def ports(config: Config, *, of_our_demo: Collection[int] = (), wants_demo: bool = True) -> Check:
    """Check that the demo's ports are free, or in use by the demo of this workspace, which a run replaces."""
    if not wants_demo:
        return Check("ports", "good", _NO_DEMO)
    requested = {"api_port": config.serving.api_port, "page_port": config.serving.page_port}
    names = ", ".join(map(str, requested.values()))
    busy = {
        key: port for key, port in requested.items() if port not in of_our_demo and not is_free(HOST, port)
    }
    if busy:
        advice = "end the other program, or: " + " ".join(f"serving.{k}={p + 10}" for k, p in busy.items())
        return Check("ports", "bad", f"taken: {', '.join(map(str, busy.values()))}", advice)
    if {*requested.values()} <= {*of_our_demo}:
        return Check("ports", "good", f"{names}, in use by this workspace's demo")
    others = ", ".join(str(port) for port in sorted({*of_our_demo}))
    return Check(
        "ports", "good", f"{names} free" + (f"; this workspace's demo is on {others}" if others else "")
    )


def is_free(host: str, port: int) -> bool:
    """Whether a port can be bound."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def supervisor(config: Config, *, wants_demo: bool = True) -> Check:
    """Check that the program that restarts the demo's services is installed."""
    if not wants_demo:
        return Check("supervisor", "good", _NO_DEMO)
    requested, pm2 = config.serving.supervisor, shutil.which("pm2")
    if pm2 and requested != "builtin":
        if shutil.which("node"):
            return Check("supervisor", "good", "pm2")
        return Check(
            "supervisor", "bad", "pm2 without node", "install Node.js, or serving.supervisor=builtin"
        )
    if requested == "pm2":
        advice = "npm install -g pm2, or set serving.supervisor=auto"
        return Check("supervisor", "bad", "serving.supervisor=pm2 is not installed", advice)
    return Check("supervisor", "good", "SliceWise itself")
