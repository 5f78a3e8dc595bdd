"""The last lines of a run: which steps ran, the main scores, the outputs, and how to stop the demo."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from slicewise.cli.invocation import command_for
from slicewise.config.schema import Config
from slicewise.core.console import say
from slicewise.domain.tables import describe_counts
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
        for line in _headlines(evaluated.metrics, config):
            say(line)
    available = {name for name, step in steps.items() if step.status in _AVAILABLE}
    for step in reversed(pipeline(config)):  # other outputs may have other settings
        for path, text in step.highlights.items():
            if step.name in available and workspace.home(path).exists():
                say(f"  {path:<44} {text}", "dim")
    say(f"  {RECORD_NAME:<44} the record of this run", "dim")
    if "demo" in available and (url := demo_url(workspace)):
        say(f"\nThe demo runs at {url}", "header")
        say(f"  to stop it: {command_for(workspace, 'demo', 'stop')}")


def _headlines(metrics: Mapping[str, Any], config: Config) -> Iterator[str]:
    from slicewise.evaluation.comparison.output import gain_text
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
        if gains := metrics.get(f"gains_of_{config.final_stage}", {}).get(source):
            yield f"    {gain_text(config.final_stage, gains)}"


def _estimate(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return "n/a"
    low_high = estimate["interval"]
    interval = f" ({low_high[0]:.3f} to {low_high[1]:.3f})" if low_high is not None else ""
    return f"{estimate['value']:.3f}{interval}"
