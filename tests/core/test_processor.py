from pathlib import Path

import pytest

from slicewise.core.machine import has_native_bf16, usable_cores


def test_cores_are_those_of_the_affinity_and_the_quota(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(8)))
    nowhere = tmp_path / "membership"
    assert usable_cores(tmp_path, nowhere) == 8
    for quota, cores in (("150000 100000", 2), ("30000 100000", 1), ("1600000 100000", 8)):
        (tmp_path / "cpu.max").write_text(quota)
        assert usable_cores(tmp_path, nowhere) == cores


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
