"""The demo: an API and a page that serve the model of the final stage."""

import shutil
from functools import partial
from pathlib import Path
from typing import Any

from slicewise.config.schema import Config
from slicewise.config.schema.evaluation import InferenceSettings
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json, sweep, write_json
from slicewise.core.hashing import hash_file
from slicewise.demo.state import CASES_DIR, CHECKPOINT_NAME, DemoState, is_alive, read_state
from slicewise.engine.receipt import Receipt
from slicewise.engine.step import Context, Outcome, Step
from slicewise.engine.workspace import Workspace
from slicewise.workflow.settings import select_settings

_NAME = "demo"
_STATE_NAME = "step.json"
LOG_DIR = "logs"
PHANTOM_SEED = 0


def service_home(workspace: Workspace) -> Path:
    """Return the folder with the state of the demo of this workspace."""
    return workspace.service(_NAME)


def demo_url(workspace: Workspace) -> str | None:
    """Return the address for people where the demo of this workspace runs, else None."""
    state = _running(workspace)
    return state.url if state else None


def ports(workspace: Workspace) -> frozenset[int]:
    """Return the ports on which the demo of this workspace runs, if it does."""
    state = _running(workspace)
    return frozenset(process.port for process in state.services) if state else frozenset()


def _running(workspace: Workspace) -> DemoState | None:
    home = service_home(workspace)
    return read_state(home) if is_alive(home) else None


def stop(workspace: Workspace) -> bool:
    """Stop the demo of this workspace; return whether there was one."""
    from slicewise.demo.lifecycle import stop_demo

    home = service_home(workspace)
    stopped = stop_demo(home)
    (home / _STATE_NAME).unlink(missing_ok=True)
    return stopped


def _settings(config: Config) -> dict[str, Any]:
    thresholds = ("mask_threshold", "class_threshold", "uncertain_band", "min_component", "component_share")
    keys = ("batch_size", *thresholds, *InferenceSettings._fields)
    return select_settings(config, "serving", *(f"evaluation.{key}" for key in keys))


def _run(final: Step[Config], calibration_file: str, context: Context[Config]) -> Outcome:
    from slicewise.demo.lifecycle import start_demo, write_cases

    config, workspace = context.config, context.workspace
    home, checkpoint_home = service_home(workspace), context.home(final.name, "checkpoint")
    stop(workspace)
    home.mkdir(parents=True, exist_ok=True)
    sweep(home)
    write_cases(home / CASES_DIR, config.serving.phantom_cases, PHANTOM_SEED)
    # Copies: the homes may be replaced by those of another mode while the demo runs.
    shutil.copyfile(checkpoint_home / CHECKPOINT_NAME, home / CHECKPOINT_NAME)
    calibration = workspace.home(calibration_file)
    calibration_path = home / calibration.name
    calibration_path.unlink(missing_ok=True)
    if calibration.is_file():  # the API looks for it beside its model, and checks that it belongs to it
        shutil.copyfile(calibration, calibration_path)
    fingerprint = context.needs[final.name]
    state = start_demo(config, home, workspace.root / LOG_DIR, fingerprint=fingerprint)
    served = {
        "fingerprint": context.fingerprint,
        "choices": _hash_if_any(calibration_path),
        "network": _checkpoint_identity(checkpoint_home),
    }
    write_json(home / _STATE_NAME, served)
    return Outcome(metrics={"page": state.url, "api": state.service("api").url, "supervisor": state.kind})


def _is_live(final: Step[Config], calibration_file: str, workspace: Workspace, fingerprint: str) -> bool:
    home = service_home(workspace)
    try:
        served = read_json(home / _STATE_NAME)
    except (FileNotFoundError, WorkspaceError):
        return False
    # The evaluation is not among the needs: a model can be served without one, with configured thresholds.
    current = (fingerprint, _hash_if_any(workspace.home(calibration_file)))
    if not isinstance(served, dict) or (served.get("fingerprint"), served.get("choices")) != current:
        return False
    model, network = served.get("network"), _checkpoint_identity(workspace.home(final.homes["checkpoint"]))
    # The same fingerprint with other weights: the training step was forced.
    if network and isinstance(model, dict) and network != model and network.keys() == model.keys():
        return False
    return is_alive(home)


def _checkpoint_identity(home: Path) -> dict[str, str] | None:
    receipt = Receipt.read(home)
    return None if receipt is None else {receipt.fingerprint: receipt.product}


def _hash_if_any(path: Path) -> str | None:
    return hash_file(path) if path.is_file() else None


def demo(final: Step[Config], calibration_file: str) -> Step[Config]:
    """Return the step that serves the model of a training step with the thresholds of this file, if any."""
    return Step(
        name=_NAME,
        run=partial(_run, final, calibration_file),
        settings=_settings,
        needs=(final.name,),
        is_live=partial(_is_live, final, calibration_file),
        group="demo",
    )
