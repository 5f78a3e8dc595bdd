"""The held-out test cases: metrics, figures, saliency, and the three stages compared."""

from slicewise.config.schema import Config
from slicewise.engine.step import Context, Outcome, Step
from slicewise.workflow.demand import evaluation_demand
from slicewise.workflow.settings import evaluation_settings
from slicewise.workflow.step_names import HOMES, STAGE_STEPS


def _run(context: Context[Config]) -> Outcome:
    from slicewise.compute.device import choose_device
    from slicewise.compute.threads import tuned_threads
    from slicewise.workflow.evaluation import evaluate

    runtime = context.config.runtime
    with tuned_threads(runtime.num_threads, "evaluate", choose_device(runtime.device).type) as threads:
        metrics, notes = evaluate(context)
        return Outcome(metrics={**metrics, "num_threads": threads.setting.number}, notes=notes)


EVALUATE: Step[Config] = Step(
    name="evaluate",
    run=_run,
    settings=evaluation_settings,
    needs=("preprocess", "split", *STAGE_STEPS),
    homes=HOMES["evaluate"],
    product=("metrics.json", "slices.csv", "patients.csv"),
    version=15,
    demand=evaluation_demand,
)
