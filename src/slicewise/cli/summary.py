"""The last lines of a run: which steps ran, the main scores, the outputs, and how to stop the demo."""

from typing import Final

from slicewise.cli.invocation import command_for
from slicewise.config.schema import Config
from slicewise.core.console import say
from slicewise.engine.record import RECORD_NAME, RunRecord
from slicewise.engine.workspace import Workspace
from slicewise.steps import pipeline
from slicewise.steps.demo import demo_url

_AVAILABLE: Final = ("completed", "reused")


def show_summary(record: RunRecord, config: Config, workspace: Workspace) -> None:
    """Print the summary of a run that has completed."""
    steps = record.steps
    ran = [name for name, step in steps.items() if step.status == "completed"]
    num_reused = sum(step.status == "reused" for step in steps.values())
    seconds = sum(step.duration_seconds for step in steps.values())
    say()
    work = f"ran {', '.join(ran)}" if ran else "nothing had to run"
    say(f"{work}; {num_reused} reused; {seconds:.1f} s", "good")
    evaluated = steps.get("evaluate") or steps["cross_validation"]
    if evaluated.status in _AVAILABLE and evaluated.metrics:
        kind = "synthetic test patients" if config.data.synthetic else "test patients"
        say(f"\nOn held-out {kind} of {config.data.name} ({config.training_mode}):")
        for line in evaluated.metrics["headlines"]:
            say(f"  {line}")
    available = {name for name, step in steps.items() if step.status in _AVAILABLE}
    for step in reversed(pipeline(config)):  # other outputs may have other settings
        for path, text in step.highlights.items():
            if step.name in available and workspace.home(path).exists():
                say(f"  {path:<44} {text}", "dim")
    say(f"  {RECORD_NAME:<44} the record of this run", "dim")
    if "demo" in available and (url := demo_url(workspace)):
        say(f"\nThe demo runs at {url}", "header")
        say(f"  to stop it: {command_for(workspace, 'demo', 'stop')}")
