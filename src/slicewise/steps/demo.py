"""The demo: an API and a page that serve the joint network."""

import shutil
from pathlib import Path
from typing import Any

from slicewise.config.schema import Config
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json, sweep, write_json
from slicewise.pipeline.step import Context, Outcome, Step
from slicewise.pipeline.workspace import Workspace
from slicewise.steps.settings import pick

_NAME = "demo"
_PHANTOM_SEED = 0


def address(workspace: Workspace) -> str | None:
    """Return the page's address where the demo of this workspace runs, else None."""
    from slicewise.serving.health import is_alive
    from slicewise.serving.state import read_state

    home = workspace.service(_NAME)
    state = read_state(home)
    return state.page_url if state and is_alive(home) else None


def stop(workspace: Workspace) -> None:
    """Stop the demo of this workspace, if there is one."""
    from slicewise.serving.supervise import stop_demo

    stop_demo(workspace.service(_NAME))
    _note(workspace).unlink(missing_ok=True)


def _settings(config: Config) -> dict[str, Any]:
    return pick(config, "serving", "evaluation.mask_threshold", "evaluation.class_threshold")


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
    options = ModelOptions(
        checkpoint_path,
        config.runtime.device,
        config.evaluation.class_threshold,
        config.evaluation.mask_threshold,
        cases_dir,
    )
    state = start_demo(
        config.serving,
        options,
        home,
        context.workspace.root / "logs",
        fingerprint=context.needs["train.joint"],
    )
    write_json(_note(context.workspace), {"fingerprint": context.fingerprint})
    return Outcome(metrics={"page": state.page_url, "api": state.api_url, "supervisor": state.kind})


def _is_live(workspace: Workspace, fingerprint: str) -> bool:
    from slicewise.serving.health import is_alive

    try:
        note = read_json(_note(workspace))
    except (FileNotFoundError, WorkspaceError):
        return False
    named = note.get("fingerprint") if isinstance(note, dict) else None
    return bool(named == fingerprint) and is_alive(workspace.service(_NAME))


def _note(workspace: Workspace) -> Path:
    return workspace.service(_NAME) / "step.json"


DEMO: Step[Config] = Step(name=_NAME, run=_run, settings=_settings, needs=("train.joint",), is_live=_is_live)
