"""What several steps share: it binds the domain packages to the engine.

settings        the part of the configuration that decides an output; the command that reproduces it
sources         where the data sets of a run lie, and how their cases are found
participants    which patients and pictures take part, and in which subset
slices          the slice store of a workspace, its manifest, the cases of a subset
checkpoints     the checkpoint of a stage and the tasks that it has trained
demand          disk and memory that each step needs
folds           a step within one fold of a cross-validation
evaluation      the work of the step `evaluate` (predictions, saliency: its parts)
observers       console, MLflow (tracking), tensorboard, and those of other packages
"""
