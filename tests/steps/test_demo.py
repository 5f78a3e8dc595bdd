"""The demo takes what the evaluation chose, and is started anew when that changes."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from slicewise.config.compose import compose
from slicewise.config.schema import Config, Evaluation
from slicewise.config.schema.evaluation import InferenceSettings
from slicewise.core.files import write_json
from slicewise.core.hashing import HashCache
from slicewise.demo import lifecycle
from slicewise.demo.state import DemoState, Service
from slicewise.engine.receipt import Identity, Receipt
from slicewise.engine.step import Context
from slicewise.engine.workspace import Workspace
from slicewise.steps import pipeline

DEMO = pipeline(compose([]))[-1]
CHOICES = Path("results/multitask_evaluation/calibration.json")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Services that are taken for running; what they were started with is kept."""
    configs: list[Config] = []

    def start(config: Config, home: Path, *_: Any, fingerprint: str) -> DemoState:
        configs.append(config)
        services = tuple(Service(name, 1, "/", "", None, 0) for name in ("api", "page"))
        return DemoState("builtin", None, fingerprint, str(home), services)

    monkeypatch.setattr(lifecycle, "start_demo", start)
    monkeypatch.setattr(lifecycle, "write_cases", lambda *_: ())
    monkeypatch.setattr(import_module("slicewise.steps.demo"), "is_alive", lambda *_: True)
    return configs


def run(root: Path, *overrides: str) -> Context[Config]:
    checkpoint = root / "checkpoints" / "multitask_joint"
    checkpoint.mkdir(parents=True, exist_ok=True)
    (checkpoint / "best_model.pth").write_bytes(b"weights")
    context = Context(
        compose(list(overrides)),
        Workspace(root),
        "demo",
        root / "partial",
        {("train.joint", "checkpoint"): checkpoint},
        {"train.joint": "f"},
        HashCache(),
    )
    DEMO.run(context)
    return context


def copy(root: Path) -> Path:
    """The thresholds beside the served model."""
    return Workspace(root).service("demo") / "calibration.json"


def is_live(root: Path, fingerprint: str = "demo") -> bool:
    assert DEMO.is_live is not None
    return DEMO.is_live(Workspace(root), fingerprint)


def test_without_an_evaluation_the_demo_runs_until_there_is_one(
    tmp_path: Path, started: list[Config]
) -> None:
    run(tmp_path)
    assert not copy(tmp_path).exists()
    assert is_live(tmp_path)
    assert not is_live(tmp_path, "other settings")
    write_json(tmp_path / CHOICES, {"sources": {}})
    assert not is_live(tmp_path)


def test_the_demo_has_a_copy_of_the_choices_and_is_stale_when_they_change(
    tmp_path: Path, started: list[Config]
) -> None:
    write_json(tmp_path / CHOICES, {"sources": {}})
    run(tmp_path, "evaluation.flips=true", "evaluation.component_share=0.3")
    settings = started[-1].evaluation
    assert settings.inference == InferenceSettings(flips=True, mask_smoothing=0.5, class_smoothing=1.0)
    assert settings.component_share == 0.3
    assert copy(tmp_path).read_bytes() == (tmp_path / CHOICES).read_bytes()
    assert is_live(tmp_path)
    write_json(tmp_path / CHOICES, {"sources": {"brats": {}}})
    assert not is_live(tmp_path)
    (tmp_path / CHOICES).unlink()
    assert not is_live(tmp_path)
    run(tmp_path)
    assert not copy(tmp_path).exists()


def test_a_network_that_was_forced_and_came_out_otherwise_is_not_the_one_served(
    tmp_path: Path, started: list[Config]
) -> None:
    """Its fingerprint is the same: only the content tells."""
    home = tmp_path / "checkpoints" / "multitask_joint"
    receipt = Receipt(Identity("train.joint", 1, {}, {}, {}), {}, {}, {}, product="first")
    home.mkdir(parents=True)
    receipt.write(home)
    run(tmp_path)
    assert is_live(tmp_path)
    replace(receipt, product="second").write(home)
    assert not is_live(tmp_path)
    run(tmp_path)
    assert is_live(tmp_path)
    replace(receipt, identity=Identity("train.joint", 2, {}, {}, {})).write(home)
    assert is_live(tmp_path), "another mode is at home; the one served may wait on the shelf"


def test_the_settings_reach_the_command_line_of_the_api(tmp_path: Path) -> None:
    config = compose(["evaluation.rotation=12.0", "runtime.num_threads=3"])
    command = lifecycle.api_service(config, tmp_path, tmp_path / "best_model.pth", tmp_path).command
    settings = Evaluation.model_validate_json(command[command.index("--settings") + 1])
    assert settings == config.evaluation
    assert command[command.index("--num-threads") + 1] == "3"
    assert command[command.index("--checkpoint") + 1] == str(tmp_path / "best_model.pth")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("flips", True),
        ("rotation", 10.0),
        ("mask_smoothing", 0.7),
        ("class_smoothing", 0.7),
        ("min_component", 20),
        ("component_share", 0.3),
    ],
)
def test_what_changes_an_answer_is_among_the_settings_of_the_demo(key: str, value: float) -> None:
    assert DEMO.settings(compose([f"evaluation.{key}={value}"]))[f"evaluation.{key}"] == value
