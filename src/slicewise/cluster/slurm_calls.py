"""Calls of functions as jobs of Slurm, for which this process waits: the trials of a search.

    .slicewise/cluster/calls/<call>/call            the function and its arguments; the job has the SHA-256
    .slicewise/cluster/calls/<call>/result          what it returned, or the error that it raised
    .slicewise/cluster/calls/<callback>/<n>.request   a value of a job for this process, and `<n>.response`

Inside a job runs `python -m slicewise.cluster.slurm_calls FOLDER SHA-256`. These files decide, and the queue
only says whether a job waits or runs.
"""

import pickle
import secrets
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from slicewise.cluster import slurm
from slicewise.cluster.plan import cluster_folder, source_folder
from slicewise.cluster.script import render_call
from slicewise.cluster.slurm import SlurmError
from slicewise.cluster.source import seal_source
from slicewise.config.schema.cluster import Cluster
from slicewise.core.console import say, standard_streams
from slicewise.core.errors import SliceWiseError, WorkspaceError
from slicewise.core.files import atomic_write, read_json, write_json, write_text
from slicewise.core.hashing import digest, hash_file
from slicewise.core.signals import handle_signals
from slicewise.engine.workspace import Workspace

_STOPPED: Final = 75
_POLL_SECONDS: Final = 0.5
_QUEUE_SECONDS: Final = 5.0
_RESPONSE_SECONDS: Final = 60.0
"""After which a job goes on without a response: the process that waited for it may have ended."""


@dataclass(frozen=True)
class Callback:
    """Calls a function of the process that waits for the job; picklable.

    It returns `default` where there is no response.
    """

    folder: Path
    default: Any

    def __call__(self, number: int, value: Any) -> Any:
        write_json(self.folder / f"{number}.request", value)
        response, deadline = self.folder / f"{number}.response", time.monotonic() + _RESPONSE_SECONDS
        while not response.is_file():
            if time.monotonic() > deadline:
                return self.default
            time.sleep(_POLL_SECONDS)
        return read_json(response)


@dataclass
class _Call:
    folder: Path
    future: Future[Any]
    name: str
    missed: int = 0


@dataclass
class SlurmCalls:
    """Starts calls, and completes their futures in a thread."""

    workspace: Workspace
    cluster: Cluster
    source: Path
    _calls: list[_Call] = field(default_factory=list)
    _callbacks: dict[Path, Callable[[int, Any], Any]] = field(default_factory=dict)
    _queue_at: float = 0.0

    def callback(self, function: Callable[[int, Any], Any], default: Any) -> Callback:
        """Return what a job calls to run `function` in this process."""
        folder = self._new_folder("callback")
        self._callbacks[folder] = function
        return Callback(folder, default)

    def start(self, name: str, function: Callable[..., Any], *arguments: Any, log: Path) -> Future[Any]:
        """Submit a call.

        Raises:
            SlurmError: Slurm refuses it.
        """
        folder = self._new_folder(name)
        with atomic_write(folder / "call") as stream:
            pickle.dump((function, arguments), stream)
        title = f"slicewise-{digest(str(self.workspace.root))[:8]}-{folder.name}"
        words = [str(folder), hash_file(folder / "call")]
        log.parent.mkdir(parents=True, exist_ok=True)
        script = render_call(title, words, log, self.workspace.root, self.source, self.cluster)
        write_text(folder / "job.sh", script)
        slurm.submit(folder / "job.sh", [0], [])
        self._calls.append(_Call(folder, Future(), title))
        return self._calls[-1].future

    def stop(self) -> None:
        """Take what waits or runs out of the queue; a job saves its work meanwhile."""
        names = {call.name for call in self._calls if not call.future.done()}
        slurm.cancel([task.id for task in slurm.queue("slicewise-") if task.name in names])

    def give_up(self) -> None:
        """Wake whoever waits for a call that has not ended."""
        for call in self._calls:
            if not call.future.done():
                call.future.set_exception(SlurmError(f"{call.name} was cancelled"))

    def poll(self) -> None:
        """Run callbacks, and complete the futures of calls that have ended or that no queue has."""
        running = [call for call in self._calls if not call.future.done()]
        self._run_callbacks()
        for call in running:
            _complete(call)
        if time.monotonic() - self._queue_at > _QUEUE_SECONDS:
            self._queue_at = time.monotonic()
            try:
                names = {task.name for task in slurm.queue("slicewise-") if not task.is_dead}
            except SlurmError:
                return  # it may restart
            for call in running:
                call.missed = 0 if call.name in names else call.missed + 1
                if call.missed > 1 and not call.future.done():  # the files of NFS may come later
                    call.future.set_exception(SlurmError(f"{call.name} ended without a result"))

    def _new_folder(self, name: str) -> Path:
        folder = cluster_folder(self.workspace) / "calls" / f"{name}-{secrets.token_hex(4)}"
        folder.mkdir(parents=True)
        return folder

    def _run_callbacks(self) -> None:
        for folder, function in [*self._callbacks.items()]:
            for path in folder.glob("*.request"):
                if not path.with_suffix(".response").exists():
                    write_json(path.with_suffix(".response"), function(int(path.stem), read_json(path)))


@contextmanager
def slurm_calls(workspace: Workspace, cluster: Cluster) -> Iterator[SlurmCalls]:
    """Yield calls of a copy of this program. What waits or runs is cancelled if the block fails."""
    copies = source_folder(workspace, "")
    calls, ended = SlurmCalls(workspace, cluster, copies / seal_source(copies)), threading.Event()

    def poll() -> None:
        while not ended.wait(_POLL_SECONDS):
            try:
                calls.poll()
            except Exception as error:  # whoever waits must learn of it
                for call in calls._calls:
                    if not call.future.done():
                        call.future.set_exception(error)

    thread = threading.Thread(target=poll, name="slurm calls", daemon=True)
    thread.start()
    try:
        yield calls
    except BaseException:
        calls.stop()
        raise
    finally:
        ended.set()
        thread.join()
        calls.give_up()
        shutil.rmtree(cluster_folder(workspace) / "calls", ignore_errors=True)


def _complete(call: _Call) -> None:
    try:
        result = pickle.loads((call.folder / "result").read_bytes())  # noqa: S301, written by our own job
    except FileNotFoundError:
        return
    if isinstance(result, SliceWiseError):
        call.future.set_exception(result)
    else:
        call.future.set_result(result)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a call inside its job; return 0, or 75 where it was stopped and the next attempt goes on."""
    folder, sealed, *_ = (Path(word) for word in (sys.argv[1:] if argv is None else argv))
    result: Any
    with standard_streams(), handle_signals():
        try:
            result = _run(folder / "call", sealed.name)
        except KeyboardInterrupt:
            say("stopped; the next attempt resumes here", "warn")
            return _STOPPED
        except SliceWiseError as error:
            result = error
        except Exception as error:
            traceback.print_exc()
            result = SlurmError(f"{type(error).__name__}: {error}")
    with atomic_write(folder / "result") as stream:
        pickle.dump(result, stream)
    return 0


def _run(path: Path, sealed: str) -> Any:
    if hash_file(path) != sealed:
        raise WorkspaceError(f"{path} was changed since this job was submitted; it makes nothing")
    function, arguments = pickle.loads(path.read_bytes())  # noqa: S301, its digest came with the job
    return function(*arguments)


if __name__ == "__main__":
    sys.exit(main())
