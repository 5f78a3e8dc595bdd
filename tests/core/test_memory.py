import resource
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from slicewise.core.disk import MIB
from slicewise.core.errors import ResourceError
from slicewise.core.machine import available_memory, is_out_of_memory, require_memory


def group(folder: Path, version: int, limit: str, used: int, cache: int) -> None:
    """Write the files by which the kernel tells a group's memory."""
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(names[version], (limit, str(used), ""), strict=True):
        if text:
            (folder / name).write_text(f"{text}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[version][2]} {cache}\n")


def test_a_containers_limit_counts_and_its_file_cache_does_not(tmp_path: Path) -> None:
    nobody = tmp_path / "none"
    group(tmp_path, 2, "1000000", 900000, 300000)
    assert available_memory(tmp_path, nobody) == 400000
    group(tmp_path, 2, "max", 900000, 300000)
    assert available_memory(tmp_path, nobody) > 1000000


@pytest.mark.parametrize(
    ("version", "line", "root"),
    [(2, "0::/job/me", ""), (2, "0::/job/me", "unified"), (1, "4:memory:/job/me", "memory")],
)
def test_every_level_above_the_process_counts(tmp_path: Path, version: int, line: str, root: str) -> None:
    (tmp_path / "cgroup").write_text(f"9:name=systemd:/\n{line}\n")
    group(tmp_path / root / "job" / "me", version, "9000000", 1000000, 0)
    group(tmp_path / root / "job", version, "5000000", 3000000, 500000)
    assert available_memory(tmp_path, tmp_path / "cgroup") == 2500000


def test_an_overdrawn_group_has_nothing_left(tmp_path: Path) -> None:
    group(tmp_path, 2, "1000", 5000, 0)
    assert available_memory(tmp_path, tmp_path / "none") == 0


def test_work_that_may_not_fit_is_warned_of_and_impossible_work_refused() -> None:
    assert require_memory(1, 1, "a test", "set x=1") is None
    warning = require_memory(1 << 60, 1, "a test", "set x=1")
    assert warning is not None
    assert "a test may need" in warning
    assert "set x=1" in warning
    with pytest.raises(
        ResourceError, match=r"a test needs at least [\d,]+ MiB of memory and [\d,]+ MiB are free"
    ):
        require_memory(1 << 60, 1 << 60, "a test", "set x=1")


def test_ulimit_counts() -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    try:
        room = 300 * MIB
        resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + room, before[1]))
        assert 0 < available_memory() <= room
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _numpy() -> None:
    import numpy as np

    np.empty(1 << 50)


def _torch() -> None:
    import torch

    torch.empty(1 << 50)


@pytest.mark.parametrize("ask", [_numpy, _torch])
def test_a_real_shortage_is_recognised(ask: Callable[[], None]) -> None:
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        ask()
    assert is_out_of_memory(caught.value)


def test_other_errors_are_no_shortage() -> None:
    import torch

    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(OSError("out of memory"))
