"""Each benchmark runs at a tiny size and reports its rows; the speed is not tested."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, nullcontext
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from benchmarks import accuracy, curve, malloc, neighbours, noop, plain_script
from benchmarks.__main__ import NAMES, load, main, measure_all
from benchmarks.bench import Bench, temporary_bench
from benchmarks.measure import Aim, Row, alternate, share, shorter_is_better, throughput
from benchmarks.plain_script import Budget
from benchmarks.preprocess import usual_preprocess
from benchmarks.report import table, write_report
from benchmarks.size import FULL, TINY
from benchmarks.usual_data import augment
from tests.fixtures.small_model import TASKS
from tests.test_bad_input import write_patient

from slicewise.config.compose import compose
from slicewise.engine.receipt import Report
from slicewise.models.multitask import MultitaskModel

ROWS = [
    throughput("first", "ours against theirs", 10, [1.0, 2.0, 1.0], [2.0, 2.0, 4.0], Aim(">=", 1.5)),
    share("second", "a part of it", "ms", [0.1, 0.2], [1.0, 1.0], Aim("<=", 0.1)),
    shorter_is_better("third", "for information", [1.0], [3.0]),
]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """One of a small patient: to generate one as large as those of BraTS takes seconds."""

    def write(root: Path, numbers: Iterable[int], **_: Any) -> None:
        for number in numbers:
            write_patient(root, number)

    with pytest.MonkeyPatch.context() as patch, temporary_bench(TINY) as bench:
        patch.setattr("benchmarks.bench.materialise_patients", write)
        yield bench


@pytest.mark.parametrize(
    "name",
    [
        "preprocess",
        "listing",
        "train_step",
        "usual_loop",
        "augmentation",
        "malloc",
        "checkpointing",
        "export",
    ],
)
def test_a_benchmark_reports_a_ratio_for_each_round(
    name: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = malloc._seconds_in_child

    def start_one_of_two(allocator: str, iterations: int, overrides: tuple[str, ...]) -> float:
        if allocator == "keep":
            return start(allocator, iterations, overrides)
        return malloc._child(allocator, iterations, [*overrides])

    monkeypatch.setattr(malloc, "_seconds_in_child", start_one_of_two)
    for row in load(name)(bench):
        assert row.benchmark == name
        assert row.ours > 0
        assert row.reference > 0
        assert len(row.ratios) >= TINY.starts
        assert min(row.ratios) <= row.ratio <= max(row.ratios)
        assert (row.aim is None) == (name == "malloc" or "openvino" in row.what)


@pytest.mark.slow
def test_the_chosen_threads_are_set_beside_each_fixed_setting(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = cache(lambda overrides: stack.enter_context(start("one thread", overrides)))
    start = neighbours._trainer
    monkeypatch.setattr(neighbours, "_FIXED", {"one thread": {}})  # of four
    monkeypatch.setattr(neighbours, "_trainer", lambda _, overrides: nullcontext(started(overrides)))
    with ExitStack() as stack:
        rows = load("neighbours")(bench)
    assert len(rows) == len(TINY.neighbours)
    assert "on its own" in rows[0].what
    assert "beside 1 program of two threads" in rows[1].what
    assert all(row.ours > 0 and row.reference > 0 for row in rows)
    ours = [child.cmdline() for child in psutil.Process().children(recursive=True)]
    assert not [line for line in ours if "benchmarks.neighbours" in line or neighbours.NEIGHBOUR in line]


def test_the_aim_is_for_the_best_fixed_setting() -> None:
    rates = {neighbours._CHOSEN: 9.0, "all threads": 5.0, "one thread": 10.0}
    trainers: Any = {name: SimpleNamespace(rate=lambda _, rate=rate: rate) for name, rate in rates.items()}
    slow, fast = neighbours._rows(trainers, 0, 0.0)
    assert (slow.ratio, fast.ratio) == pytest.approx((1.8, 0.9))
    assert (slow.aim, fast.aim) == (None, neighbours.AIM)
    assert fast.what.endswith("one thread (the best)")


def test_the_usual_slices_are_as_many_and_as_large_as_ours(bench: Bench, tmp_path: Path) -> None:
    stored, side = bench.slices[0], bench.config.preprocessing.image_size
    usual_preprocess(bench.cases[0], stored, side, tmp_path)
    files = sorted(tmp_path.iterdir())
    middle = len(files) // 2
    assert len(files) == len(stored.indices)
    with np.load(files[middle]) as usual:
        image, mask = usual["image"], usual["mask"]
    assert image.shape == (4, side, side)
    assert mask.shape == (side, side)
    # the file's axes run the other way: [column, row]
    same = np.corrcoef(image.transpose(0, 2, 1).ravel(), stored.images[middle].ravel())[0, 1]
    assert same > 0.9


def test_per_sample_augmentation_moves_image_and_mask_together(bench: Bench) -> None:
    mask = np.zeros((32, 32), np.float32)
    mask[4:14, 18:28] = 1
    settings = bench.config.training.augmentation.model_copy(update={"intensity": 0.0, "noise": 0.0})
    image, moved = augment(np.stack([mask] * 4), mask, settings, np.random.default_rng(3))
    assert image.shape == (4, 32, 32)
    assert (moved != mask).any()
    assert ((image[0] > 0.5) == (moved > 0.5)).mean() > 0.97


def test_runs_with_nothing_to_do(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path(sys.executable).with_name("dvc").exists():
        pytest.skip("dvc is not installed; `make bench` installs it")
    monkeypatch.setattr(noop, "_finish_workspace", lambda folder: folder)
    monkeypatch.setattr(noop, "_RUN", ("plan",))  # a pipeline of its own would take a minute
    monkeypatch.setattr(noop, "_SELECTION", ())
    monkeypatch.setattr(noop, "_check_noop", lambda *_: None)
    rows = load("noop")(bench)
    assert [row.what.split(" without ")[0].split(" where ")[0] for row in rows] == [
        "slicewise run",
        "slicewise plan",
        "slicewise --help",
    ]
    assert all(row.aim == noop.AIM and len(row.ratios) == TINY.starts for row in rows)


def test_a_run_that_did_something_is_no_noop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"split": {"status": "reused"}, "train.joint": {"status": "completed"}}
    (tmp_path / "pipeline_results.json").write_text(json.dumps({"steps": steps}))
    monkeypatch.setattr(noop, "run_program", lambda *_: "")
    with pytest.raises(RuntimeError, match=r"was not finished: train\.joint ran"):
        noop._check_noop(tmp_path, ())


def test_a_failed_program_says_what_it_printed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no such luck"):
        noop.run_program([sys.executable, "-c", "raise SystemExit('no such luck')"], tmp_path)


def test_sides_are_timed_in_turn_and_the_first_round_does_not_count() -> None:
    order: list[str] = []
    seconds = alternate({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2)
    assert order == ["a", "b"] * 3
    assert [len(times) for times in seconds.values()] == [2, 2]


def test_ratios_are_formed_round_by_round_and_their_median_counts() -> None:
    first, second, third = ROWS
    assert (first.ratios, first.ratio, first.ours, first.reference) == ((2.0, 1.0, 4.0), 2.0, 10.0, 5.0)
    assert second.unit == "ms"
    assert (second.ratio, second.ours) == pytest.approx((0.15, 150))
    assert (third.ratio, third.unit) == (3.0, "s")
    assert [row.is_met for row in ROWS] == [True, False, None]


def test_an_aim_without_equality_wants_more() -> None:
    assert not Aim("<", 1).is_met_by(1)
    assert Aim("<=", 1).is_met_by(1)
    assert str(Aim(">=", 0.93)) == ">= 0.93"


def test_the_table_names_what_was_missed() -> None:
    lines = table(ROWS).splitlines()
    assert lines[0].split() == ["what", "ours", "reference", "ratio", "aim"]
    assert "2.00 (1.00-4.00)" in lines[1]
    assert lines[1].endswith(">= 1.5  met")
    assert lines[2].endswith("<= 0.1  MISSED")
    assert lines[3].endswith("3.00 (3.00-3.00)")


def test_the_figures_are_written_as_json(tmp_path: Path) -> None:
    write_report(tmp_path / "figures.json", ROWS, {"cores": 2, "load": 0.5})
    value = json.loads((tmp_path / "figures.json").read_text())
    assert value["machine"]["cores"] == 2
    assert value["rows"][0]["ratio"] == 2.0
    assert (value["rows"][0]["lowest"], value["rows"][0]["highest"]) == (1.0, 4.0)
    assert value["rows"][0]["met"] is True
    assert value["rows"][2]["aim"] is None


def test_a_benchmark_that_cannot_run_does_not_stop_the_others(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: Bench) -> list[Row]:
        raise RuntimeError("dvc is not installed")

    monkeypatch.setattr("benchmarks.noop.run", run)
    monkeypatch.setattr("benchmarks.malloc.run", lambda _: ROWS)
    assert measure_all(["noop", "malloc"], bench) == (ROWS, ["noop"])
    assert "noop: dvc is not installed" in capsys.readouterr().err


def test_the_command_prints_a_table_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.malloc.run", lambda _: ROWS)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main(["malloc", "--tiny", "--json", str(tmp_path / "figures.json")]) == 0
    assert "ours against theirs" in capsys.readouterr().out
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


def test_an_unknown_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["preproces"])
    message = capsys.readouterr().err
    assert all(name in message for name in NAMES)


def test_the_threads_asked_for_are_those_of_training() -> None:
    assert FULL.with_threads(1).overrides == (*FULL.overrides, "runtime.num_threads=1")
    assert FULL.with_threads(0) == FULL


def test_the_package_starts_as_a_program() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--help"],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "usual_loop" in done.stdout


@pytest.mark.parametrize("chooses", [True, False])
def test_a_plain_script_learns_within_its_budget(bench: Bench, chooses: bool) -> None:
    """In this process; another test starts one for it."""
    subsets = dict.fromkeys(("train", "val", "test"), bench.slices)
    budget = Budget(seconds=0.5, batch_size=8, threads=0, seed=0, chooses=chooses)
    (dice,) = plain_script._train_and_test(bench.config.model, subsets, budget).values()
    assert 0 < dice <= 1


def test_both_curves_have_the_seconds_of_training_alone(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def prepared(_: Bench) -> Path:
        return tmp_path

    def subsets(*_: object) -> dict[str, Any]:
        return dict.fromkeys(("train", "val"), bench.slices)

    monkeypatch.setattr(curve, "_prepared", prepared)
    monkeypatch.setattr(curve, "open_subsets", subsets)
    (row,) = curve.run(bench)
    assert row.unit == "s"
    assert row.reference > 0
    assert row.ratio == pytest.approx(row.reference / row.ours)
    lines = [line for line in capsys.readouterr().out.splitlines() if " after " in line]
    assert [line.split(":")[0].strip() for line in lines] == ["ours", "plain script"]


def test_a_plain_script_begins_where_ours_does() -> None:
    settings = compose().model
    plain: Any = plain_script._build_unet(settings)
    ours: Any = MultitaskModel(settings, TASKS)
    shapes = [[tuple(part.shape) for part in net.encoder.parameters()] for net in (plain, ours)]

    assert torch.equal(next(plain.encoder.parameters()), next(ours.encoder.parameters()))
    assert shapes[0][: len(shapes[1])] == shapes[1]
    assert [tuple(part.shape) for part in plain.decoder.parameters()] == [
        tuple(part.shape) for part in ours.decoder.parameters()
    ]


def test_a_stage_that_was_interrupted_counts_with_all_its_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    reports = iter([(10.0, 30.0), (25.0, 20.0), (5.0, 4.0)])

    def read(home: Path) -> SimpleNamespace:
        duration, batches = next(reports)
        return SimpleNamespace(report=Report(duration_seconds=duration, metrics={"seconds": batches}))

    monkeypatch.setattr("benchmarks.accuracy.Receipt.read", read)
    assert accuracy._training_seconds(Path("fold"), compose([])) == 30 + 25 + 5


def test_differences_are_paired_by_patient_and_their_mean_counts() -> None:
    row = accuracy._row({"a": 0.9, "b": 0.5, "c": 0.7}, {"c": 0.7, "a": 0.6, "b": 0.5}, 10, 2)
    assert row.ratios == pytest.approx((0.3, 0.0, 0.0))
    assert row.ratio == pytest.approx(0.1)
    assert row.is_met
    with pytest.raises(RuntimeError, match="tested by one of the two only"):
        accuracy._row({"a": 0.9}, {"b": 0.5}, 10, 2)


def test_a_workspace_without_folds_is_refused(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="holds no folds"):
        accuracy.run(Bench(tmp_path, TINY, workspace=tmp_path))
