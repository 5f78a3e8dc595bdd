"""What several steps share: it binds the domain packages to the engine.

settings      the part of the configuration that decides an output; the command that reproduces it
participants  sources of a run, which of their patients and pictures take part, and in which subset
slices        the slice store of a workspace, its manifest, the cases of a subset
checkpoints   the checkpoints of a stage and of a cross-validation, the tasks that a stage has trained
demand        disk and memory that each step needs
folds         a step within one fold of a cross-validation
evaluation    the work of the step `evaluate`
observers     console, MLflow, TensorBoard, and those of other packages
"""
