"""MLflow itself is asked only where it is installed: `requirements/tracking.lock` is no part of the tests."""

import csv
import math
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
from tests.conftest import Pipeline

from slicewise.config.compose import compose
from slicewise.engine.receipt import Receipt
from slicewise.engine.workspace import StoredOutput, Workspace
from slicewise.workflow import observers
from slicewise.workflow.observers import EXPERIMENT, iterate_metrics, list_observers

ON = "tracking.mlflow=true"
NOWHERE = "tracking.uri=nonsense://nowhere"


def output(trained: Pipeline, folder: str) -> tuple[Receipt, dict[str, Path]]:
    home = trained.workspace / folder
    receipt = Receipt.read(home)
    assert receipt is not None
    return receipt, {"checkpoint": home}


def test_without_tracking_nobody_listens(trained: Pipeline) -> None:
    assert list_observers(compose(), Workspace(trained.workspace)) == {}


def test_missing_packages_are_told_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(observers, "find_spec", lambda name: None if name == "mlflow" else name)
    assert Pipeline(tmp_path).run("--until", "split", ON) == 2
    assert "needs mlflow: install slicewise[tracking]" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_a_tracker_that_fails_is_recorded_and_stops_nothing(
    trained: Pipeline, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(observers, "find_spec", lambda name: name)
    assert trained.run("--until", "evaluate", ON, NOWHERE) == 0
    assert trained.ran() == []  # nor does tracking make anything run again
    notes = trained.record["steps"]["download"]["notes"]
    assert [note for note in notes if note.startswith("mlflow failed at download")] == notes[-1:]
    assert not any("mlflow" in str(trained.record["steps"][name]["notes"]) for name in ("split", "evaluate"))
    assert "mlflow failed at download" in capsys.readouterr().out
    assert trained.record["success"]


def test_credentials_in_the_address_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert Pipeline(tmp_path).run(ON, "tracking.uri='https://me:hunter2@host'") == 2
    told = capsys.readouterr().err
    assert "tracking.uri: a credential in the configuration" in told
    assert "hunter2" not in told


def test_the_history_of_a_stage_is_told_epoch_by_epoch(trained: Pipeline) -> None:
    found = list(iterate_metrics("train.joint", *output(trained, "checkpoints/multitask_joint")))
    with (trained.workspace / "checkpoints/multitask_joint/history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    told = {(name, epoch): value for name, value, epoch in found}
    for row in rows:
        for name in ("train_loss", "val_loss", "dice"):
            value = float(row[name]) if row[name] else None
            assert told.get((f"train.joint/{name}", int(row["epoch"]))) == value
    assert ("train.joint/epochs_run", 0) in told
    assert all(math.isfinite(value) for value in told.values())


def test_the_metrics_of_the_evaluation_are_told_by_source(trained: Pipeline) -> None:
    folder = trained.workspace / "results/multitask_evaluation"
    receipt = Receipt.read(folder)
    assert receipt is not None
    told = {name: value for name, value, _ in iterate_metrics("evaluate", receipt, {"evaluation": folder})}
    dice = receipt.report.metrics["sources"]["phantom"]["segmentation"]["dice_per_patient"]["value"]
    assert told["evaluate/sources.phantom.segmentation.dice_per_patient.value"] == dice
    assert not any(set(name) - set(observers.ALLOWED_CHARACTERS) for name in told)


@pytest.mark.skipif(find_spec("mlflow") is None, reason="the extra `tracking` is not installed")
@pytest.mark.filterwarnings("ignore")
def test_one_configuration_is_one_run_however_often_it_is_told(trained: Pipeline) -> None:
    from mlflow import MlflowClient

    assert trained.run("--until", "evaluate", ON) == 0
    assert trained.ran() == []
    client = MlflowClient(f"sqlite:///{trained.workspace / 'tracking' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment is not None
    (first,) = client.search_runs([experiment.experiment_id])
    receipt, _ = output(trained, "checkpoints/multitask_joint")
    assert first.data.tags["step.train.joint"] == receipt.fingerprint
    assert first.data.tags["git_commit"] == (receipt.report.git_commit or "not recorded")
    assert first.data.params["seed"] == "0"
    assert first.info.status == "FINISHED"
    history = client.get_metric_history(first.info.run_id, "train.joint/train_loss")
    assert [metric.step for metric in history] == [1, 2]
    assert trained.run("--until", "evaluate", ON) == 0
    (again,) = client.search_runs([experiment.experiment_id])
    assert again.data.metrics == first.data.metrics
    assert len(client.get_metric_history(first.info.run_id, "train.joint/train_loss")) == 2
    client.set_tag(first.info.run_id, "product.train.joint", "of another machine")
    assert trained.run("--until", "evaluate", ON) == 0
    (forced,) = client.search_runs([experiment.experiment_id])
    assert forced.data.tags["product.train.joint"] == receipt.product, "logged again"


def test_tensorboard_without_its_package_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(observers, "find_spec", lambda _: None)
    assert Pipeline(tmp_path).run("--until", "split", "tracking.tensorboard=true") == 2
    assert "needs the package tensorboard: pip install tensorboard" in capsys.readouterr().err


class _Writer:
    """Keeps what torch's SummaryWriter would write."""

    scalars: ClassVar[list[tuple[str, float, int]]] = []

    def __init__(self, _folder: str) -> None: ...
    def add_scalar(self, name: str, value: float, number: int) -> None:
        self.scalars.append((name, value, number))

    def flush(self) -> None: ...


def test_tensorboard_has_the_epochs_of_a_stage_once(
    trained: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observers, "find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=_Writer))
    monkeypatch.setattr(_Writer, "scalars", [])
    config = compose(["tracking.tensorboard=true"])
    observer = list_observers(config, Workspace(tmp_path))["tensorboard"]
    observer.epoch("train.joint", {"epoch": 2, "dice": 0.5, "auc": math.nan})
    assert _Writer.scalars == [("train.joint/dice", 0.5, 2)]

    made = StoredOutput(*output(trained, "checkpoints/multitask_joint"))
    observer.finished("train.joint", "completed", "", made)
    assert {number for _, _, number in _Writer.scalars[1:]} == {0}, "its epochs are there"
    observer.finished("train.joint", "reused", "", made)
    seen = len(_Writer.scalars)
    again = list_observers(config, Workspace(tmp_path))["tensorboard"]
    again.finished("train.joint", "reused", "", made)
    assert len(_Writer.scalars) == seen
    again.finished("train.cls_head", "reused", "", made)
    with (made.folders["checkpoint"] / "history.csv").open(newline="") as history:
        epochs = {int(row["epoch"]) for row in csv.DictReader(history)}
    assert len(epochs) > 2
    assert {number for _, _, number in _Writer.scalars[seen:]} == epochs
