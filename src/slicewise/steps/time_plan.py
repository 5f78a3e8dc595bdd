"""The sizes of the training stages for a run of `training.minutes`."""

from slicewise.config.schema import Config
from slicewise.core.files import write_json
from slicewise.engine.step import Context, Outcome, Step
from slicewise.workflow.demand import training_demand
from slicewise.workflow.participants import source_keys
from slicewise.workflow.settings import recipe_wording, select_settings
from slicewise.workflow.time_plan import FORECAST_NAME, STAGES_NAME, STEP, make_time_plan


def _run(context: Context[Config]) -> Outcome:
    with recipe_wording(context.config):
        planned, forecast = make_time_plan(context)
    folder = context.out(STEP)
    write_json(folder / STAGES_NAME, {name: plan._asdict() for name, plan in planned.items()})
    write_json(folder / FORECAST_NAME, {name: round(seconds, 1) for name, seconds in forecast.items()})
    sizes = (
        f"{name} {plan.epochs} x {plan.batches} batches ({forecast[f'train.{name}']:.0f} s)"
        for name, plan in planned.items()
    )
    note = f"{', '.join(sizes)}, evaluation {forecast['evaluate']:.0f} s"
    return Outcome({"stages": {name: plan._asdict() for name, plan in planned.items()}}, (note,))


def time_plan(config: Config) -> Step[Config]:
    """Return the step; the stages are its input, and a stage that is sized by it needs it."""
    keys = (*(f"stages.{name}" for name in config.stages), "training", "tasks", "model")
    return Step(
        name=STEP,
        run=_run,
        settings=lambda config: select_settings(config, *keys, *source_keys(config, "slot")),
        needs=("preprocess", "split"),
        homes={STEP: "data/time_plan"},
        product=(STAGES_NAME,),
        demand=training_demand,
        group="train",
        aliases=("time-plan",),
    )
