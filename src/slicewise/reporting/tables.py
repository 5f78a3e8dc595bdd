"""Tables of a run that the report and the model card share: its stages, and its split."""

from slicewise.domain.report import Table, number
from slicewise.reporting.run import RunInfo


def training_table(run: RunInfo) -> Table:
    """Return the stages with the scores of their best epoch on the validation patients."""
    steps = [step for step in run.steps if step.name.startswith("train.")]
    keys = dict.fromkeys(key for step in steps for key in step.metrics["best_metrics"])
    shown = ("auc_", "balanced_accuracy_")
    scores = [key for key in keys if key == "dice" or key.startswith(shown)]
    names = (
        key.replace("auc_", "AUC ")
        .replace("dice", "Dice")
        .replace("balanced_accuracy_", "balanced accuracy ")
        for key in scores
    )
    rows = [
        (
            step.name,
            str(run.config["stages"][step.name.partition(".")[2]]["starts_from"] or "–"),
            str(step.metrics["epochs_run"]),
            str(step.metrics["best_epoch"] or "initial"),
            *(number(step.metrics["best_metrics"].get(key)) for key in (*scores, "val_loss")),
            number(step.seconds / 60, 1),
            number(step.metrics["images_per_second"], 0),
            str(step.metrics["device"]),
        )
        for step in steps
    ]
    head = ("stage", "starts from", "epochs", "best epoch", *names, "loss", "minutes", "images/s", "device")
    return Table(head, rows, "Scores of the best epoch on the validation patients")


def split_table(run: RunInfo, caption: str = "") -> Table:
    """Return the number of groups in each subset of the split."""
    subsets = ("train", "val", "test")
    rows = [(source, *(str(counts[name]) for name in subsets)) for source, counts in run.counts.items()]
    return Table(("source", *subsets), rows, caption)
