"""The demo: an API and a page that serve the joint network."""

import shutil
from pathlib import Path
from typing import Any

from slicewise.config.schema import Config
from slicewise.config.schema.asking import Asking
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json, sweep, write_json
from slicewise.core.fingerprint import hash_file
from slicewise.pipeline.receipt import Receipt
from slicewise.pipeline.step import Context, Outcome, Step
from slicewise.pipeline.workspace import Workspace
from slicewise.steps.settings import pick

_NAME = "demo"
_PHANTOM_SEED = 0
_NETWORK = "checkpoints/multitask_joint"
_CHOICES = Path("results/multitask_evaluation/calibration.json")


def address(workspace: Workspace) -> str | None:
    """Return the page's address where the demo of this workspace runs, else None."""
    from slicewise.serving.health import is_alive
    from slicewise.serving.state import read_state

    home = workspace.service(_NAME)
    state = read_state(home)
    return state.page_url if state and is_alive(home) else None


def ports(workspace: Workspace) -> frozenset[int]:
    """Return the ports on which the demo of this workspace runs, if it does."""
    from slicewise.serving.health import is_alive
    from slicewise.serving.state import read_state

    home = workspace.service(_NAME)
    state = read_state(home)
    return frozenset(one.port for one in state.services) if state and is_alive(home) else frozenset()


def stop(workspace: Workspace) -> bool:
    """Stop the demo of this workspace; return whether there was one."""
    from slicewise.serving.supervise import stop_demo

    stopped = stop_demo(workspace.service(_NAME))
    _note(workspace).unlink(missing_ok=True)
    return stopped


def _settings(config: Config) -> dict[str, Any]:
    decided = ("mask_threshold", "class_threshold", "component_share", *Asking._fields)
    return pick(config, "serving", *(f"evaluation.{key}" for key in decided))


def _run(context: Context[Config]) -> Outcome:
    from slicewise.serving.cases import write_cases
    from slicewise.serving.commands import ModelOptions
    from slicewise.serving.supervise import start_demo

    config, home = context.config, context.workspace.service(_NAME)
    stop(context.workspace)
    home.mkdir(parents=True, exist_ok=True)
    sweep(home)
    cases_dir = home / "cases"
    write_cases(cases_dir, config.serving.phantom_cases, _PHANTOM_SEED)
    # A copy: the home may be replaced by another mode's checkpoint while the demo runs on.
    checkpoint_path = home / "best_model.pth"
    shutil.copyfile(context.home("train.joint", "checkpoint") / "best_model.pth", checkpoint_path)
    calibration_path, note = _take_choices(context.workspace)
    options = ModelOptions(
        checkpoint_path,
        config.runtime.device,
        config.evaluation.class_threshold,
        config.evaluation.mask_threshold,
        cases_dir,
        calibration_path,
        config.evaluation.asking,
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
    served = _network_in(context.home("train.joint", "checkpoint"))
    content = {"fingerprint": context.fingerprint, "choices": note, "network": served}
    write_json(_note(context.workspace), content)
    return Outcome(metrics={"page": state.page_url, "api": state.api_url, "supervisor": state.kind})


def _take_choices(workspace: Workspace) -> tuple[Path | None, str | None]:
    """Copy what the evaluation chose, if there was one; return the copy and the hash of what it holds.

    Whether it was chosen for this very network is for the API to see, which says so in its answers.
    """
    copy = workspace.service(_NAME) / _CHOICES.name
    copy.unlink(missing_ok=True)
    if not (workspace.root / _CHOICES).is_file():
        return None, None
    shutil.copyfile(workspace.root / _CHOICES, copy)
    return copy, hash_file(copy)


def _choices_now(workspace: Workspace) -> str | None:
    path = workspace.root / _CHOICES
    return hash_file(path) if path.is_file() else None


def _is_live(workspace: Workspace, fingerprint: str) -> bool:
    from slicewise.serving.health import is_alive

    try:
        note = read_json(_note(workspace))
    except (FileNotFoundError, WorkspaceError):
        return False
    if not isinstance(note, dict) or _was_made_anew(note.get("network"), workspace):
        return False
    # The evaluation is not among the needs: a network without one can be shown, with configured thresholds.
    named = (note.get("fingerprint"), note.get("choices"))
    return named == (fingerprint, _choices_now(workspace)) and is_alive(workspace.service(_NAME))


def _was_made_anew(served: Any, workspace: Workspace) -> bool:
    """Whether the network at home has the fingerprint of the one served and other weights: it was forced."""
    now = _network_in(workspace.home(_NETWORK))
    return now is not None and isinstance(served, dict) and now != served and now.keys() == served.keys()


def _network_in(home: Path) -> dict[str, str] | None:
    receipt = Receipt.read(home)
    return None if receipt is None else {receipt.fingerprint: receipt.product}


def _note(workspace: Workspace) -> Path:
    return workspace.service(_NAME) / "step.json"


DEMO: Step[Config] = Step(name=_NAME, run=_run, settings=_settings, needs=("train.joint",), is_live=_is_live)
