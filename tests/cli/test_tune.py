"""`slicewise tune`: trials are runs, no test case is opened, a stopped search goes on, repeats nothing."""

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest
from tests.conftest import TINIEST, Pipeline
from tests.fixtures.slurm import Slurm

from slicewise.cli.main import main
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json
from slicewise.workflow import slices
from slicewise.workflow.tuning import STUDY_NAME, Pruner, StudySettings, TuningStudy, explained_storage

SMALL = (
    *("recipes=binary", "data=shapes", "stages.train.epochs=2", "augmentation=none"),
    *(f"data.sources.shapes.{subset}=4" for subset in ("train", "val", "test")),
    *(word for word in TINIEST if not word.startswith(("data.", "scale="))),
    "training.iterations_per_epoch=8",
)
SPACE = ("--lr", "log(1e-4,1e-1)", "training.optimizer.name=choice(adam,sgd)")


class Tuning:
    """A workspace in which settings are searched; what it did is recorded."""

    def __init__(self, workspace: Path) -> None:
        self.workspace, self.opened = workspace, list[str]()

    def tune(self, *words: str, space: tuple[str, ...] = SPACE) -> int:
        return main(["tune", "--workspace", str(self.workspace), "--no-input", *space, *words, *SMALL])

    @property
    def results(self) -> Any:
        return read_json(self.workspace / "results/tune/tune.json")

    def trained(self) -> dict[str, int]:
        """Return when each output of the stage was made."""
        receipts = self.workspace.glob(".slicewise/shelf/train.train/*/checkpoint/best_model.pth")
        return {path.parts[-3]: path.stat().st_mtime_ns for path in receipts}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Tuning:
    """A search of three trials, stopped in the second one and continued."""
    tuning = Tuning(tmp_path_factory.mktemp("tuned"))
    open_cases = slices.open_cases

    def recording_open_cases(context: Any, subset: Any) -> Any:
        tuning.opened.append(subset)
        return open_cases(context, subset)

    tell_epoch, told = Pruner.epoch, list[float]()

    def stopping(pruner: Pruner, step: str, metrics: Mapping[str, float]) -> None:
        tell_epoch(pruner, step, metrics)
        told.append(metrics["epoch"])
        if len(told) == 3:  # after the first epoch of the second trial
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "open_cases", recording_open_cases)
        patch.setattr(Pruner, "epoch", stopping)
        assert tuning.tune("--trials", "3") == 130
        before = tuning.trained()
        assert len(before) == 2  # the default recipe and a trial
        assert tuning.tune("--trials", "3") == 0
        assert before.items() <= tuning.trained().items()
        assert told[:5] == [1, 2, 1, 2, 1]  # the interrupted trial has gone on with its second epoch
    return tuning


def test_every_trial_has_a_score_and_the_best_one_wins(tuned: Tuning) -> None:
    results = tuned.results
    scores = [trial["score"] for trial in results["trials"] if trial["state"] == "complete"]
    assert [trial["number"] for trial in results["trials"]] == [1, 2, 3]
    assert results["winner"]["score"] == max([*scores, results["default"]["score"]])
    assert results["margin"] == results["winner"]["score"] - results["default"]["score"]
    assert len(tuned.trained()) == 4
    with (tuned.workspace / "results/tune/trials.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["trial"] for row in rows] == ["default", "1", "2", "3"]
    assert {row["training.optimizer.name"] for row in rows[1:]} <= {"adam", "sgd"}
    assert all(1e-4 <= float(row["lr"]) <= 1e-1 for row in rows[1:])
    assert (tuned.workspace / "results/tune/history.png").is_file()


def test_no_trial_opens_a_test_case(tuned: Tuning) -> None:
    assert {*tuned.opened} == {"train", "val"}
    assert not [*(tuned.workspace / "results").glob("multitask_evaluation")]


def test_a_stopped_search_ends_as_one_that_was_not(tuned: Tuning, tmp_path: Path) -> None:
    whole = Tuning(tmp_path / "whole")
    assert whole.tune("--trials", "3") == 0
    for key in ("trials", "default", "winner", "margin"):
        ours, theirs = whole.results[key], tuned.results[key]
        assert _without_times(ours) == _without_times(theirs)


@pytest.mark.slow
def test_a_search_on_ray_with_a_killed_worker_finds_the_same(
    tuned: Tuning, tmp_path: Path, ray_address: str, ray_process: "subprocess.Popen[str]"
) -> None:
    """Trials save and score where Ray runs them, and the study stays here."""
    remote, killed = Tuning(tmp_path / "remote"), list[int]()

    def kill_once() -> None:
        partial = remote.workspace / ".slicewise/partial/train.train"
        while not [*partial.glob("*/checkpoint/last.pth")]:
            time.sleep(0.01)
        workers = psutil.Process(ray_process.pid).children(recursive=True)
        killed.extend(each.pid for each in workers if each.cmdline()[0] == "ray::_work")
        os.kill(killed[0], signal.SIGKILL)

    threading.Thread(target=kill_once, daemon=True).start()
    words = ("--on", "ray", f"cluster.ray.address={ray_address}", "runtime.checkpoint_seconds=1e-3")
    assert remote.tune("--trials", "3", *words) == 0
    assert len(killed) == 1
    assert _without_times(remote.results["default"]) == _without_times(tuned.results["default"])
    assert _without_times(remote.results["trials"]) == _without_times(tuned.results["trials"][:3])


@pytest.mark.slow
def test_a_search_on_slurm_with_a_requeued_job_finds_the_same(
    tuned: Tuning, tmp_path: Path, login: Slurm
) -> None:
    remote = Tuning(tmp_path / "remote")

    def requeue_once() -> None:
        partial = remote.workspace / ".slicewise/partial/train.train"
        while not [*partial.glob("*/checkpoint/last.pth")]:
            time.sleep(0.01)
        login.run("scontrol", "requeue", login.queue()[0][0])

    disturbing = threading.Thread(target=requeue_once, daemon=True)
    disturbing.start()
    words = ("--on", "slurm", "cluster.train.cpus=1", "cluster.train.memory_mib=0")
    assert remote.tune("--trials", "2", *words, "runtime.checkpoint_seconds=1e-3") == 0
    disturbing.join(1)
    assert not disturbing.is_alive()
    assert _without_times(remote.results["default"]) == _without_times(tuned.results["default"])
    assert "stopped; the next attempt" in (remote.workspace / "logs/tune-default.log").read_text()
    assert _without_times(remote.results["trials"]) == _without_times(tuned.results["trials"][:2])
    assert not [*(remote.workspace / ".slicewise/cluster/calls").glob("*")]


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(each) for key, each in value.items() if key != "seconds"}
    return [_without_times(each) for each in value] if isinstance(value, list) else value


def test_a_finished_search_trains_nothing_and_more_trials_go_on(tuned: Tuning) -> None:
    before = tuned.trained()
    first = tuned.results["trials"]
    assert tuned.tune("--trials", "3") == 0
    assert tuned.trained() == before
    assert tuned.tune("--trials", "4", "--jobs", "2") == 0
    assert tuned.results["trials"][:3] == first
    assert len(tuned.trained()) == 5
    assert "train 2/2" in next((tuned.workspace / "logs").glob("tune-*-004.log")).read_text()


def test_the_winner_is_a_configuration_whose_training_is_reused(tuned: Tuning) -> None:
    best = tuned.workspace / "results/tune/best.yaml"
    assert (
        main(
            [
                "run",
                "--config",
                str(best),
                "--no-input",
                "--until",
                "train",
                "--workspace",
                str(tuned.workspace),
            ]
        )
        == 0
    )
    steps = Pipeline(tuned.workspace).record["steps"]
    assert steps["train.train"]["status"] == "reused"
    assert "made earlier with these settings" in steps["train.train"]["reason"]
    assert steps["train.train"]["fingerprint"] == tuned.results["winner"]["fingerprint"]


def test_the_winner_is_compared_on_test_where_that_is_wanted(tuned: Tuning) -> None:
    number = len(tuned.results["trials"])
    assert tuned.tune("--trials", str(number), "--evaluate-winner") == 0
    has_winner = bool(tuned.results["winner"]["number"])
    table = tuned.workspace / "results/tune/test.json"
    assert table.is_file() is has_winner
    if has_winner:
        assert {row["variant"] for row in read_json(table)["rows"]} == {"default", "winner"}


def test_trials_end_with_a_command_that_is_killed() -> None:
    program = (
        "import time, psutil\n"
        "from slicewise.cli import tune_trials\n"
        "tune_trials._run_in_worker = time.sleep\n"
        "if __name__ == '__main__':\n"
        "    with tune_trials.local_trials(2) as place:\n"
        "        futures = [place.submit(60) for _ in range(2)]\n"
        "        while not all(future.running() for future in futures): time.sleep(0.01)\n"
        "        print(*(each.pid for each in psutil.Process().children()), flush=True)\n"
        "        time.sleep(60)\n"
    )
    command = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None
    workers = [psutil.Process(int(pid)) for pid in command.stdout.readline().split()]
    assert len(workers) > 2  # with multiprocessing's tracker
    command.kill()
    command.communicate()
    assert not psutil.wait_procs(workers, timeout=30)[1]


def test_a_trial_that_diverges_fails_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tuning = Tuning(tmp_path)
    space = ("training.mask_loss=choice({bce:1e300},{bce:1e301})",)
    assert tuning.tune("--trials", "2", space=space) == 0
    assert "no trial was better than the default recipe" in capsys.readouterr().out
    assert tuning.results["num_trials"] == {"complete": 0, "pruned": 0, "failed": 2}
    assert all("NaN or infinite" in trial["reason"] for trial in tuning.results["trials"])
    assert tuning.results["winner"]["number"] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "nothing to search: write a space in place of a value"),
        (("training.optimizer.lrr=log(1,2)",), "training.optimizer.lrr: unknown key"),
        (("training.batch_size=logg(1,2)",), "did you mean log()?"),
        (("training.batch_size=uniform(1,2)",), "training.batch_size"),
        (("training.optimizer.name=choice(adam,adamm)",), "did you mean adam?"),
        (("split.seed=int(0,3)",), "split.seed=3 changes split"),
        (("evaluation.class_threshold=uniform(0.1,0.9)",), "changes nothing that is trained"),
        (
            ("model.encoder=choice(resnet18,resnet81)", "model.encoder_weights=null"),
            "model.encoder=resnet81: unknown",
        ),
        (("stages.joint.monitor=choice(dice,auc)",), "changes the monitor"),
        (("--lr", "log(1e-4,1e-2)", "--folds", "3"), "leave --folds and --minutes out"),
        (("--lr", "log(1e-4,1e-2)", "--trials", "0"), "--trials 0: at least 1"),
        (("training.clip_norm=uniform(1,2)", "training.clip_norm=1"), "set the same; leave one of them out"),
    ],
)
def test_what_cannot_be_searched_is_an_error_that_names_the_key(
    words: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", "--workspace", str(tmp_path), "--no-input", *words]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "results").exists()


def test_learning_rates_are_searched_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["tune", "--workspace", str(tmp_path), "--dry-run", "training.optimizer.lr=log(1e-5,1e-2)"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "training.optimizer.lr=log(1e-5,1e-2)" in out
    assert "stages.joint.learning_rates.head" in out
    assert "stages.seg_warmup.learning_rates.head" not in out  # frozen there


@pytest.mark.parametrize("damage", ["garbage", "folder"])
def test_a_damaged_study_is_named_with_the_way_out(damage: str, tmp_path: Path) -> None:
    path = tmp_path / STUDY_NAME
    if damage == "garbage":
        path.write_bytes(b"x" * 4096)
    else:
        path.mkdir()
    settings = StudySettings(tmp_path, "search", (), seed=0, pruner="none", epochs=1)
    with (
        pytest.raises(WorkspaceError, match=rf"{path}: .* move it away .* reuses the trainings"),
        explained_storage(tmp_path),
    ):
        TuningStudy(settings)


def test_without_optuna_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from slicewise.workflow import tuning

    monkeypatch.setattr(tuning, "find_spec", lambda name: None)
    assert main(["tune", "--workspace", str(tmp_path), "--lr", "log(1e-4,1e-2)"]) == 2
    assert "install slicewise[tune]" in capsys.readouterr().err
