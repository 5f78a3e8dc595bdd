from pathlib import Path

import pytest

from slicewise.core.machine import cpu_quotas

V2, V1 = "0::/user/job\n", "4:memory:/a\n1:cpu,cpuacct:/user/job\n0::/\n"


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        (V2, {"user/job/cpu.max": "150000 100000\n"}, [1.5]),
        (V2, {"user/job/cpu.max": "max 100000\n", "user/cpu.max": "300000 100000\n"}, [3.0]),
        (V2, {"cpu.max": "200000 100000\n"}, [2.0]),  # a container sees its own group as the root
        (V2, {"user/job/cpu.max": "nonsense\n"}, []),
        (
            V1,
            {"cpu/user/job/cpu.cfs_quota_us": "50000\n", "cpu/user/job/cpu.cfs_period_us": "100000\n"},
            [0.5],
        ),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, []),
        ("", {}, []),
    ],
)
def test_quotas_of_both_versions_of_control_groups(
    membership: str, files: dict[str, str], expected: list[float], tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    named = tmp_path / "membership"
    named.write_text(membership)
    assert list(cpu_quotas(tmp_path, named)) == expected
