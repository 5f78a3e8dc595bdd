"""All folds pooled: metrics over all patients, each tested by the model of its own fold."""

from slicewise.config.schema import Config
from slicewise.engine.step import Context, Outcome, Step
from slicewise.workflow.folds import fold_name
from slicewise.workflow.settings import evaluation_settings, recipe_wording


def _run(context: Context[Config]) -> Outcome:
    from slicewise.evaluation.cross_validation import pool_folds, write_pooled
    from slicewise.evaluation.report import headlines
    from slicewise.evaluation.runs import read_run

    config, data = context.config, context.config.data
    folds = [
        read_run(context.home(fold_name("evaluate", fold), "evaluation"), f"fold {fold}")
        for fold in range(1, config.split.folds + 1)
    ]
    pooled = pool_folds(folds, config.evaluation, config.seed)
    with recipe_wording(config):
        metrics = write_pooled(
            context.out("pooled"),
            folds,
            pooled,
            data_name=data.name,
            stage=config.final_stage,
            synthetic=data.synthetic,
        )
        return Outcome({**metrics, "headlines": headlines(metrics)})


def cross_validation(folds: int) -> Step[Config]:
    """Return the step that pools this number of folds."""
    return Step(
        name="cross_validation",
        run=_run,
        settings=evaluation_settings,
        needs=tuple(fold_name("evaluate", fold) for fold in range(1, folds + 1)),
        homes={"pooled": "results/cross_validation"},
        product=("metrics.json",),
        version=14,
        group="evaluate",
        aliases=("evaluate", "evaluation"),
        highlights={"results/cross_validation/report.txt": "the report on all folds together"},
    )
