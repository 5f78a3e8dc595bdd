"""The last screen of a run: what ran, the headline figures, where to look, how to stop the demo."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from slicewise.cli.invocation import command_for
from slicewise.config.schema import Config
from slicewise.core.console import say
from slicewise.engine.record import RECORD_NAME, RunRecord, StepRecord
from slicewise.engine.workspace import Workspace
from slicewise.workflow.step_names import CROSS_VALIDATION, HOMES

_REPORT, _EVALUATION = HOMES["report"]["report"], HOMES["evaluate"]
_OUTPUTS: Final = (
    ("report", f"{_REPORT}/report.html", "the report: open it in a browser"),
    ("report", f"{_REPORT}/report.txt", "the same as text"),
    ("report", f"{_REPORT}/model_card.md", "the model card"),
    ("evaluate", f"{_EVALUATION['evaluation']}/report.txt", "the scores as text"),
    (CROSS_VALIDATION, f"{HOMES[CROSS_VALIDATION]['pooled']}/report.txt", "the report on all folds together"),
    ("evaluate", _EVALUATION["phases"], "the three stages compared"),
    ("evaluate", _EVALUATION["failures"], "what went wrong, and what it has in common"),
    ("evaluate", _EVALUATION["gradcam"], "Grad-CAM pictures"),
    ("train.joint", f"{HOMES['train.joint']['checkpoint']}/best_model.pth", "the trained network"),
)
"""Which step makes what; that of a step that took no part may be of other settings, and is not shown."""
_AVAILABLE: Final = ("completed", "reused")


def show_summary(record: RunRecord, config: Config, workspace: Workspace) -> None:
    """Print the summary of a run that ended well."""
    say()
    say(_what_ran(record.steps), "good")
    evaluated = record.steps.get("evaluate") or record.steps[CROSS_VALIDATION]
    for line in _headlines(evaluated, config):
        say(line)
    for path, text in _output_paths(record.steps, workspace):
        say(f"  {path:<44} {text}", "dim")
    if "demo" in record.steps:
        _show_demo(record.steps["demo"], workspace)


def _output_paths(steps: Mapping[str, StepRecord], workspace: Workspace) -> Iterator[tuple[str, str]]:
    """Yield what this run made or reused, and the record of it."""
    available = {name for name, step in steps.items() if step.status in _AVAILABLE}
    for step, path, text in _OUTPUTS:
        if step in available and (workspace.root / path).exists():
            yield path, text
    yield RECORD_NAME, "the record of this run"


def _what_ran(steps: Mapping[str, StepRecord]) -> str:
    ran = [name for name, step in steps.items() if step.status == "completed"]
    reused = sum(step.status == "reused" for step in steps.values())
    seconds = sum(step.duration_seconds for step in steps.values())
    work = f"ran {', '.join(ran)}" if ran else "nothing had to run"
    return f"{work}; {reused} reused; {seconds:.1f} s"


def _headlines(step: StepRecord, config: Config) -> Iterator[str]:
    if step.status not in _AVAILABLE or not step.metrics:
        return
    from slicewise.evaluation.comparison.stage_gains import gain_text

    kind = "synthetic patients" if config.data.synthetic else "test patients"
    yield f"\nOn {config.data.name}, {kind} the network has not seen ({config.training_mode}):"
    for source, scores in step.metrics["sources"].items():
        yield from _source(source, scores, step.metrics.get("decisions", {}).get(source))
        gains = step.metrics.get("gains_of_joint", {}).get(source)
        if gains:
            yield f"    {gain_text('joint', gains)}"
    for task in step.metrics.get("not_trained", ()):
        yield f"  {task}: not trained"


def _source(source: str, scores: Mapping[str, Any], decision: Mapping[str, Any] | None) -> Iterator[str]:
    from slicewise.domain.tables import describe_class_threshold, describe_counts, describe_mask_threshold

    mask_condition_text, class_condition_text = (
        f" ({condition(decision)})" if decision else ""
        for condition in (describe_mask_threshold, describe_class_threshold)
    )

    masks, classes = scores["segmentation"], scores["classification"]
    yield f"  {source}: {describe_counts(scores['num_patients'], scores['num_slices'])}"
    if masks:
        yield f"    Dice per patient      {_estimate(masks['dice_per_patient'])}{mask_condition_text}"
    if classes is None:
        return
    yield f"    ROC-AUC               {_estimate(classes['roc_auc'])}"
    yield (
        f"    accuracy              {_estimate(classes['accuracy'])}{class_condition_text}; always answering "
        f"{classes['majority_class']} gives {classes['majority_accuracy']:.3f}"
    )
    yield f"    balanced accuracy     {_estimate(classes['balanced_accuracy'])}{class_condition_text}"


def _estimate(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return "n/a"
    text = f"{estimate['value']:.3f}"
    if estimate["interval"] is None:
        return text
    low, high = estimate["interval"]
    return f"{text} ({low:.3f} to {high:.3f})"


def _show_demo(step: StepRecord, workspace: Workspace) -> None:
    if step.status not in _AVAILABLE:
        return
    from slicewise.steps.demo import demo_url

    url = demo_url(workspace)
    if url:
        say(f"\nThe demo runs at {url}", "header")
        say(f"  to stop it: {command_for(workspace, 'demo', 'stop')}")
