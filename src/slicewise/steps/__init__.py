"""The pipeline in order. Each module binds one call into the domain to the engine."""

from slicewise.config.schema import Config
from slicewise.engine.step import Step, check_order
from slicewise.engine.workspace import Workspace
from slicewise.steps.cross_validation import cross_validation
from slicewise.steps.demo import DEMO
from slicewise.steps.download import DOWNLOAD
from slicewise.steps.evaluate import EVALUATE
from slicewise.steps.preprocess import PREPROCESS
from slicewise.steps.report import REPORT
from slicewise.steps.split import SPLIT
from slicewise.steps.train import TRAIN_CLS_HEAD, TRAIN_JOINT, TRAIN_SEG_WARMUP
from slicewise.workflow.folds import in_fold, num_folds
from slicewise.workflow.step_names import FOLD_STEPS

STEPS: tuple[Step[Config], ...] = (
    DOWNLOAD,  #          data sets on disk, found, checked and listed
    PREPROCESS,  #        volumes and pictures -> normalised slices
    SPLIT,  #             patients -> train, val, test
    TRAIN_SEG_WARMUP,  #  encoder and decoder, on masks
    TRAIN_CLS_HEAD,  #    classification head on the frozen encoder
    TRAIN_JOINT,  #       the whole model
    EVALUATE,  #          metrics, figures, saliency, comparison of the three stages
    REPORT,  #            a page of the whole run, and a model card
    DEMO,  #              API and page
)
check_order(STEPS)


def pipeline(folds: int = 0) -> tuple[Step[Config], ...]:
    """Return the steps in order; with folds, those from the split on once per fold, then pooled."""
    if not folds:
        return STEPS
    per_fold = [
        in_fold(step, fold) for fold in range(1, folds + 1) for step in STEPS if step.name in FOLD_STEPS
    ]
    steps = (DOWNLOAD, PREPROCESS, *per_fold, cross_validation(folds))
    check_order(steps)
    return steps


def stored_steps(workspace: Workspace) -> tuple[Step[Config], ...]:
    """Return the steps whose outputs a workspace may hold: those of the single run and of its folds."""
    return (*STEPS, *(step for step in pipeline(num_folds(workspace)) if step not in STEPS))
