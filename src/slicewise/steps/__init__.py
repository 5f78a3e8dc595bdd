"""The pipeline in order. Each module binds one call into the domain to the engine.

download          data sets on disk, found, checked and listed
preprocess        volumes and pictures -> normalised slices
split             patients -> train, val, test
time_plan         sizes of the stages for a run of so many minutes
train             one stage of the training
evaluate          metrics, figures, saliency, comparison of the stages
report            a page of the whole run, and a model card
demo              API and page
cross_validation  all folds pooled
external          the cases of an external test, and the evaluation on them
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from slicewise.config.schema import Config
from slicewise.core.errors import ConfigError
from slicewise.core.registry import Registry
from slicewise.engine.step import Step, check_graph
from slicewise.engine.workspace import HasHomes, Workspace
from slicewise.steps.cross_validation import cross_validation
from slicewise.steps.demo import demo
from slicewise.steps.download import DOWNLOAD
from slicewise.steps.evaluate import HOMES, evaluate
from slicewise.steps.external import evaluate_on, tested
from slicewise.steps.preprocess import PREPROCESS
from slicewise.steps.report import report
from slicewise.steps.split import SPLIT
from slicewise.steps.time_plan import time_plan
from slicewise.steps.train import train
from slicewise.workflow.folds import in_fold

STEPS: Final[Registry[Callable[[Config], Step[Config] | None]]] = Registry("steps", {})
"""Steps of other packages: a function of the configuration returns the step, or None where it has no part."""


def pipeline(config: Config) -> tuple[Step[Config], ...]:
    """Return the steps in order; with folds, those from the split on once per fold, then pooled.

    Raises:
        ConfigError: two steps have the same name or home, or one needs a step that is not there.
    """
    stages = [train(config, name) for name in config.stages]
    planned = [time_plan(config)] if config.training.minutes else []
    if planned and config.split.folds:
        raise ConfigError(
            "training.minutes plans one run, and split.folds repeats it; leave --minutes or --folds out, or "
            "set stages.STAGE.epochs"
        )
    reported = [DOWNLOAD, PREPROCESS, SPLIT, *planned, *stages, evaluate([stage.name for stage in stages])]
    calibration_file = f"{HOMES['evaluation']}/calibration.json"
    last = (report([step.name for step in reported]), demo(stages[-1], calibration_file))
    steps = _with_offered([*reported, *last], config)
    check_graph(steps)
    if folds := config.split.folds:
        repeated = [step for step in steps if step.per_fold]
        names = [step.name for step in repeated]
        shared = steps[: steps.index(repeated[0])]
        per_fold = [in_fold(step, fold, names) for fold in range(1, folds + 1) for step in repeated]
        steps = (*shared, *per_fold, cross_validation(folds))
        check_graph(steps)
    return steps


def external_pipeline(checkpoint: Path, fixed: Mapping[str, Any]) -> tuple[Step[Config], ...]:
    """Return the steps of a test of a trained model on other data; see `external.evaluate_on`."""
    homes = {slot: home for slot, home in HOMES.items() if slot != "phases"}  # there is one stage
    steps = (DOWNLOAD, PREPROCESS, tested(checkpoint), evaluate_on(checkpoint, homes, fixed))
    return (*steps, report([step.name for step in steps]))


def _with_offered(steps: Sequence[Step[Config]], config: Config) -> tuple[Step[Config], ...]:
    """Return the steps with those of other packages, each behind `after` and what it needs."""
    placed = list(steps)
    waiting = [step for name in STEPS.names() if (step := STEPS[name](config)) is not None]
    while waiting:
        names = [step.name for step in placed]
        ready = [step for step in waiting if {step.after or names[0], *step.needs} <= {*names}]
        if not ready:
            step = waiting[0]
            missing = ", ".join(sorted({*filter(None, [step.after]), *step.needs} - {*names}))
            raise ConfigError(
                f"step {step.name} stands after {missing}, which does not exist or stands after it; the "
                f"steps are {', '.join(names)}"
            )
        step = ready[0]
        behind = max((names.index(name) for name in (step.after, *step.needs) if name), default=-1)
        placed.insert(behind + 1, step)
        waiting.remove(step)
    return tuple(placed)


def stored_steps(workspace: Workspace) -> Sequence[HasHomes]:
    """Return the steps whose outputs a workspace may hold: all that ran there, else those of the defaults."""
    if (stored := workspace.stored_steps()) is not None:
        return stored
    from slicewise.config.compose import compose

    return pipeline(compose())
