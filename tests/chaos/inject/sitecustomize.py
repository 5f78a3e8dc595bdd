"""Kill a whole run at a given write; Python imports this module first in every process of the run.

`CHAOS_PLAN` is JSON: `root` (only writes below it count), `log` (a file outside it), and either
nothing more, to log all writes, or `step`, `count` (kill at that write of the step), `in_worker`, `delay`
(seconds after the call, which may then be half done) and `signal` (instead of SIGKILL).
"""

import importlib.util
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

_EVENTS = ("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_STARTS_STEP = "/.slicewise/partial/"


class Injector:
    """Counts the writes of one process."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.root, self.log = plan["root"], plan["log"]
        self.wanted, self.count = plan.get("step"), plan.get("count", 0)
        self.delay, self.in_worker = plan.get("delay", 0.0), plan.get("in_worker", False)
        self.is_worker = "multiprocessing.spawn" in " ".join(sys.orig_argv)
        self.step = "worker" if self.is_worker else "start"
        self.signal = plan.get("signal", signal.SIGKILL)
        self.num_writes = 0

    def on_event(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in _EVENTS or not isinstance(args[0], str | bytes | os.PathLike):
            return
        path = os.fsdecode(args[0])
        if not path.startswith(self.root) or (event == "open" and not args[2] & _WRITING):
            return
        self.on_write(event, path)

    def on_write(self, event: str, path: str) -> None:
        if event == "os.mkdir" and _STARTS_STEP in path and not self.is_worker:
            self.step = path.split(_STARTS_STEP)[1].split("/")[0]
        if self.wanted is None:
            self.log_event(event, path)
        elif self.is_worker == self.in_worker and (
            self.num_writes or self.is_worker or self.step == self.wanted
        ):
            self.num_writes += 1
            if self.num_writes == self.count:
                self.kill(event, path)

    def kill(self, event: str, path: str) -> None:
        self.log_event(event, path)
        if self.delay:
            threading.Thread(target=self._kill_later).start()
        else:
            os.killpg(0, self.signal)

    def _kill_later(self) -> None:
        time.sleep(self.delay)
        os.killpg(0, self.signal)

    def log_event(self, event: str, path: str) -> None:
        line = json.dumps({"step": self.step, "event": event, "path": os.path.relpath(path, self.root)})
        handle = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, line.encode() + b"\n")
        os.close(handle)


def _install(plan: dict[str, Any]) -> None:
    injector = Injector(plan)
    original = os.fsync

    def fsync(handle: Any) -> None:  # has no audit event
        number = handle if isinstance(handle, int) else handle.fileno()
        path = str(Path(f"/proc/self/fd/{number}").readlink())
        if path.startswith(injector.root):
            injector.on_write("os.fsync", path)
        original(handle)

    os.fsync = fsync  # type: ignore[assignment]  # the same but for names
    sys.addaudithook(injector.on_event)


if "CHAOS_PLAN" in os.environ:
    _install(json.loads(os.environ["CHAOS_PLAN"]))
if importlib.util.find_spec("blank_figures"):  # on the path within the suite
    sys.meta_path.insert(0, importlib.import_module("blank_figures").OnceImported)
