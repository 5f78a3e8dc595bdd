"""The processes of a stage as tasks of Ray, each in its part of the placement group of the job."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import psutil
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]

from slicewise.training.launch import PATIENCE_SECONDS, connect_by, take_part

if TYPE_CHECKING:
    from ray import ObjectRef

_MEETING_TIMEOUT: Final = timedelta(minutes=10)
"""Until a worker has started, on a node that may be slow"""


@dataclass
class OnRay:
    """Starts the other processes of a training where Ray has reserved room; they meet at the first one.

    `share` is what each asks for, as options of a task.
    """

    share: Mapping[str, Any]
    _address: tuple[str, int] = field(default=("", 0), init=False)

    def num_here(self, size: int) -> int:
        """One: a worker sees the GPUs alone that Ray gave it."""
        return min(size, 1)

    @contextmanager
    def meet(self, size: int) -> Iterator[Store]:
        import ray

        host = ray.util.get_node_ip_address()
        with connect_by(_interface(host)):
            store = TCPStore(host, 0, size, is_master=True, timeout=_MEETING_TIMEOUT, wait_for_workers=False)
            self._address = host, store.port
            yield store

    def start(self, number: int, size: int, device: str, work: bytes) -> "_Task":
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        gang = ray.util.get_current_placement_group()
        options = {**self.share, "max_retries": 0}
        strategy = PlacementGroupSchedulingStrategy(gang, number)
        task = ray.remote(_take_part).options(**options, scheduling_strategy=strategy)
        return _Task(task.remote(number, size, device, self._address, work))


@dataclass(frozen=True)
class _Task:
    """A companion on a worker of Ray."""

    task: "ObjectRef"

    def failure(self) -> str | None:
        import ray

        try:
            reason: str | None = ray.get(self.task, timeout=PATIENCE_SECONDS)
        except ray.exceptions.GetTimeoutError:
            return None
        except ray.exceptions.RayError:
            return ""
        return reason

    def kill(self) -> None:
        import ray

        ray.cancel(self.task, force=True)


def _take_part(number: int, size: int, device: str, address: tuple[str, int], work: bytes) -> str | None:
    import ray

    with connect_by(_interface(ray.util.get_node_ip_address())):
        store = TCPStore(*address, size, is_master=False, timeout=_MEETING_TIMEOUT)
        return take_part(number, size, device, store, work)


def _interface(address: str) -> str:
    """Return the network interface that has an address."""
    return next(
        name for name, rows in psutil.net_if_addrs().items() for row in rows if row.address == address
    )
