"""All folds together: metrics over everyone, each tested by the network that never saw them."""

from typing import Any

from slicewise.config.schema import Config
from slicewise.pipeline.step import Context, Outcome, Step
from slicewise.steps.names import POOL, fold_name
from slicewise.steps.settings import pick


def _settings(config: Config) -> dict[str, Any]:
    return pick(config, "evaluation", "seed", "data.name", "data.synthetic")


def _run(context: Context[Config]) -> Outcome:
    from slicewise.evaluation.cross_validation import pool, read_fold, write_pooled

    config = context.config
    folds = [
        read_fold(context.home(fold_name("evaluate", number), "evaluation"), number)
        for number in range(1, config.split.folds + 1)
    ]
    result = pool(folds, config.evaluation, config.seed)
    folder = context.out("pooled")
    return Outcome(
        metrics=write_pooled(
            folder, folds, result, data_name=config.data.name, synthetic=config.data.synthetic
        )
    )


def cross_validation(folds: int) -> Step[Config]:
    """Return the step that pools so many folds."""
    return Step(
        name=POOL,
        run=_run,
        settings=_settings,
        needs=tuple(fold_name("evaluate", number) for number in range(1, folds + 1)),
        homes={"pooled": "results/cross_validation"},
        product=("metrics.json",),
        version=6,
    )
