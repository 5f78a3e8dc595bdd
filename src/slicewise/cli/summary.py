"""The last lines of a run: which steps ran, the main scores, the outputs, and how to stop the demo."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from slicewise.cli.invocation import command_for
from slicewise.config.schema import Config
from slicewise.core.console import say
from slicewise.domain.tables import describe_counts
from slicewise.engine.record import RECORD_NAME, RunRecord
from slicewise.engine.workspace import Workspace
from slicewise.evaluation.comparison.stage_gains import gain_text
from slicewise.steps.demo import demo_url
from slicewise.workflow.step_names import CROSS_VALIDATION, HOMES

_REPORT, _EVALUATION = HOMES["report"]["report"], HOMES["evaluate"]
_OUTPUTS: Final = (
    ("report", f"{_REPORT}/report.html", "the report: open it in a browser"),
    ("report", f"{_REPORT}/report.txt", "the same as text"),
    ("report", f"{_REPORT}/model_card.md", "the model card"),
    ("evaluate", f"{_EVALUATION['evaluation']}/report.txt", "the scores as text"),
    (CROSS_VALIDATION, f"{HOMES[CROSS_VALIDATION]['pooled']}/report.txt", "the report on all folds together"),
    ("evaluate", _EVALUATION["phases"], "the three stages compared"),
    ("evaluate", _EVALUATION["failures"], "the failures, and what they have in common"),
    ("evaluate", _EVALUATION["gradcam"], "Grad-CAM pictures"),
    ("train.joint", f"{HOMES['train.joint']['checkpoint']}/best_model.pth", "the trained model"),
)
"""(Step, path, text). Those of a step that took no part may have other settings, and are not shown."""
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
    evaluated = steps.get("evaluate") or steps[CROSS_VALIDATION]
    if evaluated.status in _AVAILABLE and evaluated.metrics:
        for line in _headlines(evaluated.metrics, config):
            say(line)
    available = {name for name, step in steps.items() if step.status in _AVAILABLE}
    for step_name, path, text in _OUTPUTS:
        if step_name in available and (workspace.root / path).exists():
            say(f"  {path:<44} {text}", "dim")
    say(f"  {RECORD_NAME:<44} the record of this run", "dim")
    if "demo" in available and (url := demo_url(workspace)):
        say(f"\nThe demo runs at {url}", "header")
        say(f"  to stop it: {command_for(workspace, 'demo', 'stop')}")


def _headlines(metrics: Mapping[str, Any], config: Config) -> Iterator[str]:
    from slicewise.evaluation.summary import describe_threshold, headline_scores
    from slicewise.metrics.table import score_key, score_label

    kind = "synthetic test patients" if config.data.synthetic else "test patients"
    yield f"\nOn held-out {kind} of {config.data.name} ({config.training_mode}):"
    for source, scores in metrics["sources"].items():
        thresholds = metrics.get("decisions", {}).get(source)
        yield f"  {source}: {describe_counts(scores['num_patients'], scores['num_slices'])}"
        for metric, estimate in headline_scores(scores):
            threshold = describe_threshold(metric, thresholds)
            line = f"{score_label(score_key(metric)):<22}{_estimate(estimate)}"
            yield f"    {line} ({threshold})" if threshold else f"    {line}"
        if classes := scores["classification"]:
            majority, accuracy = classes["majority_class"], classes["majority_accuracy"]
            yield f"    always predicting {majority} has an accuracy of {accuracy:.3f}"
        if gains := metrics.get("gains_of_joint", {}).get(source):
            yield f"    {gain_text('joint', gains)}"
    for task in metrics.get("not_trained", ()):
        yield f"  {task}: not trained"


def _estimate(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return "n/a"
    low_high = estimate["interval"]
    interval = f" ({low_high[0]:.3f} to {low_high[1]:.3f})" if low_high is not None else ""
    return f"{estimate['value']:.3f}{interval}"
