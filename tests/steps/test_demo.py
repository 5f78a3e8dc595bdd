"""The demo takes what the evaluation chose, and is started anew when that changes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slicewise.config.compose import compose
from slicewise.config.schema import Config
from slicewise.config.schema.evaluation import InferenceSettings
from slicewise.core.files import write_json
from slicewise.core.hashing import HashCache
from slicewise.demo import health, lifecycle
from slicewise.demo.commands import ModelOptions, build_api_service
from slicewise.demo.state import DemoState, ServiceState
from slicewise.engine.receipt import Identity, Receipt
from slicewise.engine.step import Context
from slicewise.engine.workspace import Workspace
from slicewise.serving.api import cases
from slicewise.steps.demo import DEMO

CHOICES = Path("results/multitask_evaluation/calibration.json")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[ModelOptions]:
    """Services that are taken for running; what they were started with is kept."""
    options: list[ModelOptions] = []

    def start(settings: Any, chosen: ModelOptions, *_: Any, fingerprint: str) -> DemoState:
        options.append(chosen)
        services = tuple(ServiceState(name, 1, "/", "", None, 0) for name in ("api", "page"))
        return DemoState("builtin", None, fingerprint, str(chosen.checkpoint_path), services)

    monkeypatch.setattr(lifecycle, "start_demo", start)
    monkeypatch.setattr(cases, "write_cases", lambda *_: ())
    monkeypatch.setattr(health, "is_alive", lambda *_: True)
    return options


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


def is_live(root: Path, fingerprint: str = "demo") -> bool:
    assert DEMO.is_live is not None
    return DEMO.is_live(Workspace(root), fingerprint)


def test_without_an_evaluation_the_demo_runs_until_there_is_one(
    tmp_path: Path, started: list[ModelOptions]
) -> None:
    run(tmp_path)
    assert started[-1].calibration_path is None
    assert is_live(tmp_path)
    assert not is_live(tmp_path, "other settings")
    write_json(tmp_path / CHOICES, {"sources": {}})
    assert not is_live(tmp_path)


def test_the_demo_has_a_copy_of_the_choices_and_is_stale_when_they_change(
    tmp_path: Path, started: list[ModelOptions]
) -> None:
    write_json(tmp_path / CHOICES, {"sources": {}})
    run(tmp_path, "evaluation.flips=true", "evaluation.component_share=0.3")
    options = started[-1]
    assert options.inference == InferenceSettings(flips=True, mask_smoothing=0.5, class_smoothing=1.0)
    assert options.component_share == 0.3
    assert options.calibration_path is not None
    assert options.calibration_path.read_bytes() == (tmp_path / CHOICES).read_bytes()
    assert is_live(tmp_path)
    write_json(tmp_path / CHOICES, {"sources": {"brats": {}}})
    assert not is_live(tmp_path)
    (tmp_path / CHOICES).unlink()
    assert not is_live(tmp_path)
    run(tmp_path)
    assert started[-1].calibration_path is None
    assert not options.calibration_path.exists()


def test_a_network_that_was_forced_and_came_out_otherwise_is_not_the_one_served(
    tmp_path: Path, started: list[ModelOptions]
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


def test_both_reach_the_command_line_of_the_api(tmp_path: Path) -> None:
    serving = compose([]).serving
    plain = ModelOptions(tmp_path / "m", "cpu", 0.5, 0.5, tmp_path)
    chosen = replace(
        plain,
        calibration_path=tmp_path / "c.json",
        inference=InferenceSettings(True, 12.0, 0.7, 1.2),
        component_share=0.3,
    )
    assert not {"--flips", "--calibration"} & set(build_api_service(serving, plain, tmp_path).command)
    command = build_api_service(serving, chosen, tmp_path).command
    assert command[command.index("--calibration") + 1] == str(tmp_path / "c.json")
    assert "--flips" in command
    assert command[command.index("--rotation") + 1] == "12.0"
    assert command[command.index("--mask-smoothing") + 1] == "0.7"
    assert command[command.index("--class-smoothing") + 1] == "1.2"
    assert command[command.index("--component-share") + 1] == "0.3"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("flips", True),
        ("rotation", 10.0),
        ("mask_smoothing", 0.7),
        ("class_smoothing", 0.7),
        ("component_share", 0.3),
    ],
)
def test_what_changes_an_answer_is_among_the_settings_of_the_demo(key: str, value: float) -> None:
    assert DEMO.settings(compose([f"evaluation.{key}={value}"]))[f"evaluation.{key}"] == value
