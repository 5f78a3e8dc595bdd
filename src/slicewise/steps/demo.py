"""The demo: an API and a page that serve the joint network."""

import shutil
from pathlib import Path
from typing import Any

from slicewise.config.schema import Config
from slicewise.config.schema.inference import InferenceSettings
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json, sweep, write_json
from slicewise.core.hashing import hash_file
from slicewise.engine.receipt import Receipt
from slicewise.engine.step import Context, Outcome, Step
from slicewise.engine.workspace import Workspace
from slicewise.workflow.settings import select_settings

_NAME = "demo"
_PHANTOM_SEED = 0
_CHECKPOINT_HOME = "checkpoints/multitask_joint"
_CALIBRATION = Path("results/multitask_evaluation/calibration.json")


def demo_url(workspace: Workspace) -> str | None:
    """Return the page's address where the demo of this workspace runs, else None."""
    from slicewise.demo.health import is_alive
    from slicewise.demo.state import read_state

    home = workspace.service(_NAME)
    state = read_state(home)
    return state.page_url if state and is_alive(home) else None


def ports(workspace: Workspace) -> frozenset[int]:
    """Return the ports on which the demo of this workspace runs, if it does."""
    from slicewise.demo.health import is_alive
    from slicewise.demo.state import read_state

    home = workspace.service(_NAME)
    state = read_state(home)
    return frozenset(process.port for process in state.services) if state and is_alive(home) else frozenset()


def stop(workspace: Workspace) -> bool:
    """Stop the demo of this workspace; return whether there was one."""
    from slicewise.demo.lifecycle import stop_demo

    stopped = stop_demo(workspace.service(_NAME))
    _marker_path(workspace).unlink(missing_ok=True)
    return stopped


def _settings(config: Config) -> dict[str, Any]:
    decision_keys = ("mask_threshold", "class_threshold", "component_share", *InferenceSettings._fields)
    return select_settings(config, "serving", *(f"evaluation.{key}" for key in decision_keys))


def _run(context: Context[Config]) -> Outcome:
    from slicewise.demo.commands import ModelOptions
    from slicewise.demo.lifecycle import start_demo
    from slicewise.serving.api.cases import write_cases

    config, home = context.config, context.workspace.service(_NAME)
    stop(context.workspace)
    home.mkdir(parents=True, exist_ok=True)
    sweep(home)
    cases_dir = home / "cases"
    write_cases(cases_dir, config.serving.phantom_cases, _PHANTOM_SEED)
    # A copy: the home may be replaced by another mode's checkpoint while the demo runs on.
    checkpoint_path = home / "best_model.pth"
    shutil.copyfile(context.home("train.joint", "checkpoint") / "best_model.pth", checkpoint_path)
    calibration_path, note = _copy_calibration(context.workspace)
    options = ModelOptions(
        checkpoint_path,
        config.runtime.device,
        config.evaluation.class_threshold,
        config.evaluation.mask_threshold,
        cases_dir,
        calibration_path,
        config.evaluation.inference,
        config.evaluation.component_share,
        config.runtime.num_threads,
    )
    state = start_demo(
        config.serving,
        options,
        home,
        context.workspace.root / "logs",
        fingerprint=context.needs["train.joint"],
    )
    loaded = _checkpoint_identity(context.home("train.joint", "checkpoint"))
    marker_content = {"fingerprint": context.fingerprint, "choices": note, "network": loaded}
    write_json(_marker_path(context.workspace), marker_content)
    return Outcome(metrics={"page": state.page_url, "api": state.api_url, "supervisor": state.kind})


def _copy_calibration(workspace: Workspace) -> tuple[Path | None, str | None]:
    """Copy what the evaluation chose, if there was one; return the copy and the hash of what it holds.

    Whether it was chosen for this very network is for the API to see, which says so in its answers.
    """
    copy = workspace.service(_NAME) / _CALIBRATION.name
    copy.unlink(missing_ok=True)
    if not (workspace.root / _CALIBRATION).is_file():
        return None, None
    shutil.copyfile(workspace.root / _CALIBRATION, copy)
    return copy, hash_file(copy)


def _calibration_hash(workspace: Workspace) -> str | None:
    path = workspace.root / _CALIBRATION
    return hash_file(path) if path.is_file() else None


def _is_live(workspace: Workspace, fingerprint: str) -> bool:
    from slicewise.demo.health import is_alive

    try:
        note = read_json(_marker_path(workspace))
    except (FileNotFoundError, WorkspaceError):
        return False
    if not isinstance(note, dict) or _was_retrained(note.get("network"), workspace):
        return False
    # The evaluation is not among the needs: a network without one can be shown, with configured thresholds.
    marked = (note.get("fingerprint"), note.get("choices"))
    return marked == (fingerprint, _calibration_hash(workspace)) and is_alive(workspace.service(_NAME))


def _was_retrained(loaded: Any, workspace: Workspace) -> bool:
    """Whether the network at home has the fingerprint of the one served and other weights: it was forced."""
    current = _checkpoint_identity(workspace.home(_CHECKPOINT_HOME))
    return (
        current is not None
        and isinstance(loaded, dict)
        and current != loaded
        and current.keys() == loaded.keys()
    )


def _checkpoint_identity(home: Path) -> dict[str, str] | None:
    receipt = Receipt.read(home)
    return None if receipt is None else {receipt.fingerprint: receipt.product}


def _marker_path(workspace: Workspace) -> Path:
    return workspace.service(_NAME) / "step.json"


DEMO: Step[Config] = Step(name=_NAME, run=_run, settings=_settings, needs=("train.joint",), is_live=_is_live)
