"""The two steps of an external test: the cases that may be tested, and the evaluation on them."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from slicewise.config.schema import Config
from slicewise.engine.step import Context, Input, Outcome, Step
from slicewise.workflow.demand import evaluation_demand, split_demand
from slicewise.workflow.external import TESTED_NAME, evaluate_external, select_tested
from slicewise.workflow.settings import evaluation_settings, select_settings
from slicewise.workflow.slices import file_inputs


def _select(path: Path, context: Context[Config]) -> Outcome:
    metrics, notes = select_tested(path, context)
    return Outcome(metrics, notes)


def tested(path: Path) -> Step[Config]:
    """Return the step that takes all cases for the test, or refuses those that the model was trained on."""
    return Step(
        name="split",
        run=partial(_select, path),
        settings=lambda config: select_settings(config, "split.overlap"),
        needs=("download", "preprocess"),
        homes={"split": "data/split"},
        group="data",
        inputs=lambda _: file_inputs(checkpoint=path),
        product=(TESTED_NAME,),
        demand=split_demand,
    )


def _evaluate(path: Path, fixed: Mapping[str, Any], context: Context[Config]) -> Outcome:
    from slicewise.compute.device import choose_device
    from slicewise.compute.threads import tuned_threads

    runtime = context.config.runtime
    with tuned_threads(runtime.num_threads, "evaluate", choose_device(runtime.device).type) as threads:
        metrics, notes = evaluate_external(path, fixed, context)
        return Outcome({**metrics, "num_threads": threads.setting.number}, notes)


def evaluate_on(path: Path, homes: Mapping[str, str], fixed: Mapping[str, Any]) -> Step[Config]:
    """Return the step that evaluates a model on the cases; `fixed` holds in place of what was selected."""

    def inputs(_: Config) -> Mapping[str, Input]:
        from slicewise.inference.operating_points import find_calibration

        return file_inputs(checkpoint=path, calibration=find_calibration(path))

    def settings(config: Config) -> dict[str, Any]:
        return {**evaluation_settings(config), "fixed": dict(fixed)}

    return Step(
        name="evaluate",
        run=partial(_evaluate, path, fixed),
        settings=settings,
        needs=("preprocess", "split"),
        homes=homes,
        inputs=inputs,
        product=("metrics.json", "slices.csv", "patients.csv"),
        demand=evaluation_demand,
        group="evaluate",
        highlights={
            f"{homes['evaluation']}/report.txt": "the scores as text",
            homes["failures"]: "the failures, and what they have in common",
        },
    )
