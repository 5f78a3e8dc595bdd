"""Ray, of this machine or of an allocation: the resources of a job, and functions that run on its workers."""

import logging
import os
import secrets
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slicewise.cluster.plan import CPUS_VARIABLE
from slicewise.config.schema.cluster import Cluster, JobResources
from slicewise.core.console import say
from slicewise.core.disk import MIB
from slicewise.core.errors import SliceWiseError, UsageError
from slicewise.core.machine import usable_cores

if TYPE_CHECKING:
    from ray import ObjectRef
    from ray.util.placement_group import PlacementGroup

_OBJECTS_MIB: Final = 100
"""Of shared memory for what tasks return, which is little"""
_CONNECT_SECONDS: Final = 10.0
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
        stack.enter_context(environment_variables({"RAY_USAGE_STATS_ENABLED": "0", **own}))
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
            if address:
                _require_listener(address)
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


def _require_listener(address: str) -> None:
    """Raise OSError where nothing listens at an address with a port: Ray itself waits for minutes."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_SECONDS).close()


@cache
def _token() -> str:
    return secrets.token_hex(16)


@contextmanager
def environment_variables(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment while the block runs."""
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


def _environment_of(source: Path, cpus: int) -> dict[str, Any]:
    """Return the environment of workers that run a copy of the program."""
    path = os.pathsep.join(filter(None, (str(source / "src"), os.environ.get("PYTHONPATH"))))
    variables = {"PYTHONPATH": path, "SLICEWISE_CONFIGS": str(source / "configs")}
    return {"env_vars": {**variables, CPUS_VARIABLE: str(cpus), "OMP_NUM_THREADS": str(cpus)}}


class TaskPool:
    """Functions of a copy of the program as tasks of Ray, which repeats those whose worker is killed."""

    def __init__(self, source: Path, settings: Cluster) -> None:
        self._source, self._settings = source, settings
        self._gangs: dict[ObjectRef, PlacementGroup | None] = {}

    def start(self, function: Callable[..., Any], *arguments: Any, share: Share, log: Path) -> "ObjectRef":
        """Start a function, with room for all of its processes; what it prints goes to a file."""
        import ray
        from ray.util.placement_group import placement_group
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        options: dict[str, Any] = {**share.options, "max_retries": self._settings.restarts}
        gang = None
        if share.num_processes > 1:
            gang = placement_group([share.bundle] * share.num_processes)
            options["scheduling_strategy"] = PlacementGroupSchedulingStrategy(gang, 0)
        environment = _environment_of(self._source, share.cpus)
        task = ray.remote(_work).options(runtime_env=environment, **options)
        reference = task.remote(function, arguments, share, log)
        self._gangs[reference] = gang
        return reference

    def host(self, make: Callable[[], Any]) -> "Hosted":
        """Make an object in a process of this machine, which tasks may call."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"runtime_env": _environment_of(self._source, 1), "scheduling_strategy": here}
        actor = ray.remote(_Holder).options(num_cpus=0, max_restarts=-1, max_task_retries=-1, **options)
        return Hosted(actor.remote(make))

    def forget(self, task: "ObjectRef") -> None:
        """Free the room of a task that has ended."""
        from ray.util.placement_group import remove_placement_group

        if gang := self._gangs.pop(task):
            remove_placement_group(gang)

    def stop(self) -> None:
        """Interrupt all tasks, as Ctrl-C would, and end those that take too long to save their work."""
        import ray

        tasks = [*self._gangs]
        for task in tasks:
            ray.cancel(task, recursive=False)
        if tasks:
            grace = self._settings.grace_seconds
            for task in ray.wait(tasks, num_returns=len(tasks), timeout=grace)[1]:
                ray.cancel(task, force=True)


@dataclass(frozen=True)
class Hosted:
    """An object in another process; picklable."""

    actor: Any

    def __call__(self, method: str, *arguments: Any) -> Any:
        import ray

        return ray.get(self.actor.call.remote(method, arguments))


class _Holder:
    """What Ray keeps in a process of its own."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._held = make()

    def call(self, method: str, arguments: Sequence[Any]) -> Any:
        return getattr(self._held, method)(*arguments)


def _work(function: Callable[..., Any], arguments: Sequence[Any], share: Share, log: Path) -> Any:
    """Call a function in a worker."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        out = stack.enter_context(log.open("a", encoding="utf-8"))
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(out))
        if share.num_processes > 1:
            from slicewise.cluster.ray_training import OnRay
            from slicewise.training.launch import launched_by

            stack.enter_context(launched_by(OnRay(share.options)))
        return function(*arguments)
