"""Memory and CPU limits of the control groups (containers) that hold this process, versions 1 and 2.

Source: Linux kernel, Documentation/admin-guide/cgroup-v1 and cgroup-v2.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

CGROUP: Final = Path("/sys/fs/cgroup")
MEMBERSHIP: Final = Path("/proc/self/cgroup")
_MEMORY_FILES: Final = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def free_memory(cgroup: Path = CGROUP, membership: Path = MEMBERSHIP) -> Iterator[int]:
    """Yield the bytes that each control group still allows; its inactive file cache counts as free."""
    for folder, version in _control_groups("memory", cgroup, membership):
        limit_name, usage_name, cache_name = _MEMORY_FILES[version]
        with suppress(OSError, ValueError):  # no such group, or "max": no limit
            limit, used = (int((folder / name).read_text()) for name in (limit_name, usage_name))
            stat = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            yield max(0, limit - used + int(stat.get(cache_name, 0)))


def cpu_quotas(cgroup: Path = CGROUP, membership: Path = MEMBERSHIP) -> Iterator[float]:
    """Yield the CPU quota, in cores, of each control group that has one."""
    for folder, version in _control_groups("cpu", cgroup, membership):
        names = ("cpu.max",) if version == 2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        with suppress(OSError, ValueError):  # no such group, or "max": no limit
            quota, period = (int(word) for name in names for word in (folder / name).read_text().split())
            if quota > 0 and period > 0:
                yield quota / period


def _control_groups(controller: str, cgroup: Path, membership: Path) -> Iterator[tuple[Path, int]]:
    """Yield (folder, version) of every control group from that of this process up to the root."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    parts = [line.split(":", 2) for line in lines if line.count(":") >= 2]
    own = {name: Path(path.strip("/")) for _, names, path in parts for name in names.split(",")}
    for root, name, version in (
        (cgroup, "", 2),
        (cgroup / "unified", "", 2),
        (cgroup / controller, controller, 1),
    ):
        group = own.get(name, Path())
        for level in (group, *group.parents):
            yield root / level, version
