"""The held-out test cases: metrics, figures, saliency, and the stages compared."""

from collections.abc import Sequence
from typing import Final

from slicewise.config.schema import Config
from slicewise.engine.step import Context, Outcome, Step
from slicewise.workflow.demand import evaluation_demand
from slicewise.workflow.settings import evaluation_settings, recipe_wording

HOMES: Final = {
    "evaluation": "results/multitask_evaluation",
    "phases": "results/phase_comparison",
    "failures": "results/failures",
    "gradcam": "visualizations/multitask_gradcam",
    "ablations": "results/ablations",
}


def _run(context: Context[Config]) -> Outcome:
    from slicewise.compute.device import choose_device
    from slicewise.compute.threads import tuned_threads
    from slicewise.workflow.evaluation import evaluate

    runtime = context.config.runtime
    device = choose_device(runtime.device).type
    with (
        recipe_wording(context.config),
        tuned_threads(runtime.num_threads, "evaluate", device) as threads,
    ):
        metrics, notes = evaluate(context)
        return Outcome(metrics={**metrics, "num_threads": threads.setting.number}, notes=notes)


def evaluate(stages: Sequence[str]) -> Step[Config]:
    """Return the step that evaluates the last of these training steps, and compares all of them."""
    return Step(
        name="evaluate",
        run=_run,
        settings=evaluation_settings,
        needs=("preprocess", "split", *stages),
        homes=HOMES,
        product=("metrics.json", "slices.csv", "patients.csv"),
        version=25,
        demand=evaluation_demand,
        group="evaluate",
        aliases=("evaluation",),
        highlights={
            f"{HOMES['evaluation']}/report.txt": "the scores as text",
            **({HOMES["phases"]: "the stages compared"} if len(stages) > 1 else {}),
            HOMES["failures"]: "the failures, and what they have in common",
            HOMES["gradcam"]: "Grad-CAM pictures",
        },
        per_fold=True,
    )
