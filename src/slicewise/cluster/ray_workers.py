"""Ray, of this machine or of an allocation: what it is asked for, and functions that run on its workers."""

import logging
import os
import secrets
import signal
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slicewise.cluster.job import CPUS_VARIABLE
from slicewise.config.schema.cluster import Cluster, JobResources
from slicewise.core.console import say
from slicewise.core.disk import MIB
from slicewise.core.errors import SliceWiseError, UsageError
from slicewise.core.machine import usable_cores

if TYPE_CHECKING:
    from ray import ObjectRef

_OBJECTS_MIB: Final = 100
"""Of shared memory for what tasks return, which is little"""
_LOCAL: Final = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # everything listens on 127.0.0.1, and nothing outside finds it
    "RAY_AUTH_MODE": "token",
}


class RayError(SliceWiseError):
    """Ray is missing, cannot be started or reached, or has not what a job needs."""


def require_ray() -> None:
    """Raise UsageError where Ray is not installed."""
    if find_spec("ray") is None:
        raise UsageError(
            "--on ray needs the package ray: install slicewise[ray] (in a checkout: uv pip install -r "
            "requirements/ray.lock)"
        )


@contextmanager
def connected(settings: Cluster, folder: Path) -> Iterator[None]:
    """Be connected to Ray while the block runs.

    Without an address Ray is started for this command alone, behind a token of its own, and stopped after it.
    `folder` is where workers look for modules first.

    Raises:
        RayError: it cannot be reached or started.
    """
    address = settings.ray.address
    with ExitStack() as stack:
        own = {} if address else {**_LOCAL, "RAY_AUTH_TOKEN": _token()}
        stack.enter_context(_environment({"RAY_USAGE_STATS_ENABLED": "0", **own}))
        import ray

        started: dict[str, Any] = {}
        if not address:
            temporary = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
            )
            started = {"num_cpus": usable_cores(), "include_dashboard": False, "_temp_dir": temporary}
            started |= {"object_store_memory": _OBJECTS_MIB * MIB}
        handler = signal.getsignal(signal.SIGTERM)
        stack.callback(ray.shutdown)
        try:
            with chdir(folder):
                ray.init(address or "local", log_to_driver=False, logging_level=logging.ERROR, **started)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise RayError(
                f"Ray cannot be {'reached at ' + address if address else 'started here'}: "
                f"{str(error).splitlines()[0]}; correct cluster.ray.address, or run without --on"
            ) from error
        finally:
            signal.signal(signal.SIGTERM, handler)  # ray.init sets one that ends the process
        yield


@cache
def _token() -> str:
    return secrets.token_hex(16)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@dataclass(frozen=True)
class Share:
    """What each of the processes of a job asks for; memory in bytes."""

    cpus: int
    gpus: float
    memory: int
    num_processes: int = 1

    @property
    def options(self) -> dict[str, Any]:
        """Options of a task of Ray."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "memory": self.memory or None}

    @property
    def bundle(self) -> dict[str, float]:
        """A part of a placement group of Ray."""
        wanted = {"CPU": self.cpus, "GPU": self.gpus, "memory": self.memory}
        return {name: amount for name, amount in wanted.items() if amount}


def fit(resources: JobResources, section: str, num_processes: int = 1) -> Share:
    """Return what each process of a job asks for: an equal part, less where the nodes of Ray have less.

    Raises:
        RayError: there are not enough processors or GPUs for so many processes.
    """
    import ray

    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    number = num_processes
    wanted = Share(
        max(1, resources.cpus // number),
        resources.gpus / number,
        resources.memory_mib * MIB // number,
        number,
    )
    cpus = next(
        (n for n in range(wanted.cpus, 0, -1) if _seats(nodes, replace(wanted, cpus=n, memory=0)) >= number),
        0,
    )
    if not cpus:
        there = ", ".join(
            f"{node.get('CPU', 0):g} processors and {node.get('GPU', 0):g} GPUs" for node in nodes
        )
        raise RayError(
            f"Ray has no room for {number} x ({wanted.gpus:g} GPUs and a processor) on nodes with {there}; "
            f"lower cluster.{section}.gpus or runtime.num_processes"
        )
    share = replace(wanted, cpus=cpus)
    if _seats(nodes, share) < number:
        share = replace(share, memory=0)
    if share != wanted:
        say(f"the nodes of Ray have less than cluster.{section} asks for; its jobs get what there is", "warn")
    return share


def _seats(nodes: Sequence[Mapping[str, float]], share: Share) -> int:
    """Return how many such processes have room at the same time."""
    return sum(
        int(min(node.get(name, 0) // amount for name, amount in share.bundle.items())) for node in nodes
    )


def environment_of(source: Path, cpus: int) -> dict[str, Any]:
    """Return the environment of workers that run a copy of the program."""
    path = os.pathsep.join(filter(None, (str(source / "src"), os.environ.get("PYTHONPATH"))))
    variables = {"PYTHONPATH": path, "SLICEWISE_CONFIGS": str(source / "configs")}
    return {"env_vars": {**variables, CPUS_VARIABLE: str(cpus), "OMP_NUM_THREADS": str(cpus)}}


@contextmanager
def output_in(path: Path) -> Iterator[None]:
    """Append what the block prints to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as out, redirect_stdout(out), redirect_stderr(out):
        yield


def stop_tasks(tasks: "Collection[ObjectRef]", grace_seconds: float) -> None:
    """Interrupt tasks, as Ctrl-C would, and end those that take longer than that to save their work."""
    import ray

    for task in tasks:
        ray.cancel(task, recursive=False)
    if tasks:
        _, late = ray.wait([*tasks], num_returns=len(tasks), timeout=grace_seconds)
        for task in late:
            ray.cancel(task, force=True)


def remote(function: Callable[..., Any], share: Share, source: Path, **options: Any) -> Any:
    """Return a function as Ray runs it, on workers of a copy of the program."""
    import ray

    environment = environment_of(source, share.cpus)
    return ray.remote(function).options(runtime_env=environment, **share.options, **options)
