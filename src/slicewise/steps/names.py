"""The names of the steps in order, and the groups of them that people type. Imports nothing."""

STAGE_STEPS = ("train.seg_warmup", "train.cls_head", "train.joint")
DATA_STEPS = ("download", "preprocess", "split")
STEP_NAMES = (*DATA_STEPS, *STAGE_STEPS, "evaluate", "demo")

MODES = {
    "full": STEP_NAMES,
    "data-only": DATA_STEPS,
    "train-eval": (*STAGE_STEPS, "evaluate"),
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


def expand(name: str) -> tuple[str, ...]:
    """Return the steps that a name or alias stands for; an unknown name comes back as it is."""
    return ALIASES.get(name, (name,))
