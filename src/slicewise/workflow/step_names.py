"""The names of the steps in order, and the groups of them that people type. Imports nothing."""

STAGE_STEPS = ("train.seg_warmup", "train.cls_head", "train.joint")
DATA_STEPS = ("download", "preprocess", "split")
STEP_NAMES = (*DATA_STEPS, *STAGE_STEPS, "evaluate", "report", "demo")

FOLD_STEPS = ("split", *STAGE_STEPS, "evaluate")
"""What cross-validation does once per fold."""
CROSS_VALIDATION = "cross_validation"
_FOLD = "fold"

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
    """Return the fold that a step belongs to, by its name; 0 for one that is done once."""
    fold, _, plain_name = step.removeprefix(_FOLD).partition(".")
    return int(fold) if plain_name in FOLD_STEPS and fold.isdecimal() else 0


def step_names(folds: int = 0) -> tuple[str, ...]:
    """Return the names in order; with folds, each fold's own steps one fold after the other."""
    if not folds:
        return STEP_NAMES
    per_fold = (fold_name(step, fold) for fold in range(1, folds + 1) for step in FOLD_STEPS)
    return ("download", "preprocess", *per_fold, CROSS_VALIDATION)


def expand_alias(name: str, folds: int = 0) -> tuple[str, ...]:
    """Return the steps that a name or alias stands for, in order; an unknown name comes back as it is.

    With folds, the name of a step that is done once per fold stands for all of them.
    """
    return _expand_folds(ALIASES.get(name, (name,)), folds)


def steps_of_mode(mode: str, folds: int = 0) -> tuple[str, ...]:
    """Return the steps of a mode."""
    return _expand_folds(MODES[mode], folds)


def is_in_range(step: str, first: str | None, last: str | None) -> bool:
    """Tell whether a range from one typed name to another leaves `step` in.

    The name of what is done once per fold bounds every fold: up to `split` is the split of each of them, and
    no training. Everything else stays in.
    """
    plain_name = step.partition(".")[2]
    if not step.startswith(_FOLD) or plain_name not in FOLD_STEPS:
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
    wanted = {*steps, CROSS_VALIDATION} if "evaluate" in steps else {*steps}
    return tuple(name for name in step_names(folds) if name in wanted or name.partition(".")[2] in wanted)
