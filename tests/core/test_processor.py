from pathlib import Path

import pytest

from slicewise.core.processor import cpu_quotas, has_native_bf16, usable_cores

V2, V1 = "0::/user/job\n", "4:memory:/a\n1:cpu,cpuacct:/user/job\n0::/\n"


def groups(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


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
    named = tmp_path / "membership"
    named.write_text(membership)
    assert list(cpu_quotas(groups(tmp_path / "cgroup", files), named)) == expected


def test_cores_are_those_of_the_affinity_and_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    nowhere = tmp_path / "membership"
    assert usable_cores(tmp_path, nowhere) == 8
    for quota, cores in (("150000 100000", 2), ("30000 100000", 1), ("1600000 100000", 8)):
        assert usable_cores(groups(tmp_path, {"cpu.max": quota}), nowhere) == cores


@pytest.mark.parametrize(
    ("flags", "environment", "expected"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16 avx512vl", {}, True),
        ("flags\t\t: fpu avx512f amx_bf16", {}, True),
        ("flags\t\t: fpu avx512f avx512vl avx512_vnni", {}, False),  # Cascade Lake
        ("Features\t: fp asimd bf16 i8mm", {}, True),
        ("flags\t\t: avx512_bf16", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}, False),
        ("flags\t\t: avx512_bf16", {"ONEDNN_MAX_CPU_ISA": "avx2"}, False),
        ("flags\t\t: avx512_bf16", {"DNNL_MAX_CPU_ISA": "AVX512_CORE_VNNI"}, False),
        ("flags\t\t: avx512_bf16", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, True),
        ("nothing known", {}, False),
    ],
)
def test_bf16_is_native_where_the_flags_say_so_and_onednn_may_use_it(
    flags: str, environment: dict[str, str], expected: bool, tmp_path: Path
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nmodel name\t: Some CPU\n{flags}\n")
    assert has_native_bf16(environment, cpuinfo) is expected
    assert not has_native_bf16(environment, tmp_path / "missing")
