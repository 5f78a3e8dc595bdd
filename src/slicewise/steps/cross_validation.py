"""All folds pooled: metrics over all patients, each tested by the model of its own fold."""

from slicewise.config.schema import Config
from slicewise.engine.step import Context, Outcome, Step
from slicewise.workflow.settings import evaluation_settings
from slicewise.workflow.step_names import CROSS_VALIDATION, HOMES, fold_name


def _run(context: Context[Config]) -> Outcome:
    from slicewise.evaluation.cross_validation import pool_folds, read_fold, write_pooled

    config, data = context.config, context.config.data
    folds = [
        read_fold(context.home(fold_name("evaluate", fold), "evaluation"), fold)
        for fold in range(1, config.split.folds + 1)
    ]
    pooled = pool_folds(folds, config.evaluation, config.seed)
    return Outcome(
        write_pooled(context.out("pooled"), folds, pooled, data_name=data.name, synthetic=data.synthetic)
    )


def cross_validation(folds: int) -> Step[Config]:
    """Return the step that pools this number of folds."""
    return Step(
        name=CROSS_VALIDATION,
        run=_run,
        settings=evaluation_settings,
        needs=tuple(fold_name("evaluate", fold) for fold in range(1, folds + 1)),
        homes=HOMES[CROSS_VALIDATION],
        product=("metrics.json",),
        version=7,
    )
