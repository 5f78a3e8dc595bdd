"""All folds together: metrics over everyone, each tested by the network that never saw them."""

from typing import Any

from slicewise.config.schema import Config
from slicewise.engine.step import Context, Outcome, Step
from slicewise.workflow.settings import select_settings
from slicewise.workflow.step_names import CROSS_VALIDATION, fold_name


def _settings(config: Config) -> dict[str, Any]:
    return select_settings(config, "evaluation", "seed", "data.name", "data.synthetic")


def _run(context: Context[Config]) -> Outcome:
    from slicewise.evaluation.cross_validation import pool_folds, read_fold, write_pooled

    config = context.config
    folds = [
        read_fold(context.home(fold_name("evaluate", fold), "evaluation"), fold)
        for fold in range(1, config.split.folds + 1)
    ]
    result = pool_folds(folds, config.evaluation, config.seed)
    folder = context.out("pooled")
    return Outcome(
        metrics=write_pooled(
            folder, folds, result, data_name=config.data.name, synthetic=config.data.synthetic
        )
    )


def cross_validation(folds: int) -> Step[Config]:
    """Return the step that pools so many folds."""
    return Step(
        name=CROSS_VALIDATION,
        run=_run,
        settings=_settings,
        needs=tuple(fold_name("evaluate", fold) for fold in range(1, folds + 1)),
        homes={"pooled": "results/cross_validation"},
        product=("metrics.json",),
        version=6,
    )
