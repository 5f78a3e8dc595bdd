"""The names of the steps in order, their homes, and their aliases on the command line. Imports nothing."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from slicewise.config.schema.training import StageName

STAGES: "Final[tuple[StageName, ...]]" = ("seg_warmup", "cls_head", "joint")
FINAL_STAGE: "Final[StageName]" = "joint"
STAGE_STEPS = tuple(f"train.{stage}" for stage in STAGES)
DATA_STEPS = ("download", "preprocess", "split")
STEP_NAMES = (*DATA_STEPS, *STAGE_STEPS, "evaluate", "report", "demo")

FOLD_STEPS = ("split", *STAGE_STEPS, "evaluate")
"""What cross-validation does once per fold."""
CROSS_VALIDATION = "cross_validation"
_FOLD = "fold"

HOMES: Final[dict[str, dict[str, str]]] = {
    "download": {"index": "data/index"},
    "preprocess": {"processed": "data/processed"},
    "split": {"split": "data/split"},
    **{f"train.{stage}": {"checkpoint": f"checkpoints/multitask_{stage}"} for stage in STAGES},
    "evaluate": {
        "evaluation": "results/multitask_evaluation",
        "phases": "results/phase_comparison",
        "failures": "results/failures",
        "gradcam": "visualizations/multitask_gradcam",
        "ablations": "results/ablations",
    },
    "report": {"report": "results/report"},
    CROSS_VALIDATION: {"pooled": "results/cross_validation"},
}
"""Step -> slot -> folder of its output in the workspace. The demo is a service and has none."""

MODES = {
    "full": STEP_NAMES,
    "data-only": DATA_STEPS,
    "train-eval": (*STAGE_STEPS, "evaluate", "report"),
    "demo": ("demo",),
}

ALIASES = {
    "preprocessing": ("preprocess",),
    "training": STAGE_STEPS,
    "train": STAGE_STEPS,
    "seg-warmup": ("train.seg_warmup",),
    "cls-head": ("train.cls_head",),
    "joint": ("train.joint",),
    "evaluation": ("evaluate",),
    "all": STEP_NAMES,
}


def fold_name(step: str, fold: int) -> str:
    """Return the name of a step within a fold, counted from 1."""
    return f"{_FOLD}{fold}.{step}"


def fold_of(step: str) -> int:
    """Return the fold of a step by its name; 0 for a step outside folds."""
    fold, _, plain_name = step.removeprefix(_FOLD).partition(".")
    return int(fold) if plain_name in FOLD_STEPS and fold.isdecimal() else 0


def step_names(folds: int = 0) -> tuple[str, ...]:
    """Return the names in order; with folds, each fold's own steps one fold after the other."""
    if not folds:
        return STEP_NAMES
    per_fold = (fold_name(step, fold) for fold in range(1, folds + 1) for step in FOLD_STEPS)
    return ("download", "preprocess", *per_fold, CROSS_VALIDATION)


def expand_alias(name: str, folds: int = 0) -> tuple[str, ...]:
    """Return the steps of a name or alias, in order, in every fold; an unknown name is returned as it is."""
    return _expand_folds(ALIASES.get(name, (name,)), folds)


def steps_of_mode(mode: str, folds: int = 0) -> tuple[str, ...]:
    """Return the steps of a mode."""
    return _expand_folds(MODES[mode], folds)


def is_in_range(step: str, first: str | None, last: str | None) -> bool:
    """Return whether `step` lies between two names or aliases, each of which bounds every fold.

    Steps outside folds always do.
    """
    plain_name = step.partition(".")[2]
    if not fold_of(step):
        return True
    begins, ends = (
        [name for name in ALIASES.get(bound or "", (bound,)) if name in FOLD_STEPS] for bound in (first, last)
    )
    return not (
        (begins and FOLD_STEPS.index(plain_name) < FOLD_STEPS.index(begins[0]))
        or (ends and FOLD_STEPS.index(plain_name) > FOLD_STEPS.index(ends[-1]))
    )


def _expand_folds(steps: tuple[str, ...], folds: int) -> tuple[str, ...]:
    if not folds or not set(steps) <= set(STEP_NAMES):
        return steps
    selected = {*steps, CROSS_VALIDATION} if "evaluate" in steps else {*steps}
    return tuple(name for name in step_names(folds) if {name, name.partition(".")[2]} & selected)
