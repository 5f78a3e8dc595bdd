import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from slicewise.compute import device
from slicewise.compute.device import choose_precision, speed_ratio
from slicewise.compute.threads import make_training_step


@pytest.fixture
def native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_native_bf16", lambda: True)


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_native_bf16", lambda: False)


def measured(monkeypatch: pytest.MonkeyPatch, ratio: float) -> list[float]:
    calls: list[float] = []

    def ratio_of(*steps: object) -> float:
        calls.append(ratio)
        return ratio

    monkeypatch.setattr(device, "speed_ratio", ratio_of)
    return calls


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize(("ratio", "expected"), [(1.7, "bf16"), (0.6, "fp32")])
def test_auto_takes_bf16_where_it_is_native_and_faster(
    ratio: float, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured(monkeypatch, ratio)
    choice = choose_precision("auto", "cpu", tmp_path / "bf16.json")
    assert choice.precision == expected
    assert f"{ratio:.2f}" in choice.reason


@pytest.mark.usefixtures("emulated")
def test_emulated_bf16_is_taken_only_when_it_is_set(tmp_path: Path) -> None:
    assert choose_precision("auto", "cpu", tmp_path / "bf16.json").precision == "fp32"
    assert not (tmp_path / "bf16.json").exists()
    choice = choose_precision("bf16", "cpu")
    assert (choice.precision, "emulates" in choice.reason) == ("bf16", True)
    assert choose_precision("fp16", "cpu").precision == "fp32"


def test_what_is_set_is_used() -> None:
    assert choose_precision("fp32", "cpu").precision == "fp32"
    assert choose_precision("bf16", "cuda").precision == "bf16"
    assert choose_precision("fp16", "cuda").precision == "fp16"
    assert choose_precision("auto", "mps").precision == "fp32"


@pytest.mark.usefixtures("native")
def test_the_measurement_is_remembered_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = measured(monkeypatch, 1.5)
    cache = tmp_path / "cache" / "bf16.json"
    assert [choose_precision("auto", "cpu", cache).precision for _ in range(3)] == ["bf16"] * 3
    assert len(calls) == 1
    # Another machine, as far as torch is concerned.
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", f"not {os.environ.get('ATEN_CPU_CAPABILITY')}")
    choose_precision("auto", "cpu", cache)
    assert len(calls) == 2


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"7", b"\xff\xfe", b'{"key": "fast"}'])
def test_a_broken_cache_costs_a_measurement(
    content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = measured(monkeypatch, 1.5)
    monkeypatch.setattr(device, "_machine_key", lambda: "key")
    cache = tmp_path / "bf16.json"
    cache.write_bytes(content)
    assert choose_precision("auto", "cpu", cache).precision == "bf16"
    assert choose_precision("auto", "cpu", cache).precision == "bf16"
    assert len(calls) == 1


@pytest.mark.usefixtures("native")
def test_a_cache_that_cannot_be_written_is_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measured(monkeypatch, 1.5)
    (tmp_path / "file").touch()
    assert choose_precision("auto", "cpu", tmp_path / "file" / "bf16.json").precision == "bf16"


def test_the_ratio_is_that_of_the_shortest_runs() -> None:
    now, fp32, bf16 = [0.0], iter([90.0, 40.0, *[8.0] * 11]), iter([90.0, *[2.0] * 11, 20.0])

    def takes(durations: Iterator[float]) -> Callable[[], None]:
        def step() -> None:
            now[0] += next(durations)

        return step

    threads = torch.get_num_threads()
    assert speed_ratio(takes(fp32), takes(bf16), lambda: now[0]) == 4.0
    assert torch.get_num_threads() == threads


def test_a_step_leaves_the_generator_of_training_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    make_training_step(torch.bfloat16)()
    assert torch.equal(torch.rand(4), expected)
