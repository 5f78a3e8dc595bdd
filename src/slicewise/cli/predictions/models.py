"""The model that predicts: of the workspace, of a file, or the ensemble of all folds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicewise.config.schema import Config
from slicewise.config.schema.evaluation import InferenceSettings
from slicewise.core.errors import UsageError
from slicewise.engine.receipt import Receipt
from slicewise.engine.workspace import Workspace
from slicewise.inference.ensemble import Ensemble
from slicewise.inference.operating_points import (
    CALIBRATION_NAME,
    OperatingPoints,
    default_operating_points,
    read_operating_points,
)
from slicewise.inference.postprocess import Postprocessing
from slicewise.inference.predictor import BasePredictor, Predictor
from slicewise.models.checkpoint import load_checkpoint
from slicewise.workflow.folds import FOLDS_DIR, num_folds
from slicewise.workflow.step_names import HOMES, fold_name

CHECKPOINT = Path(HOMES["train.joint"]["checkpoint"]) / "best_model.pth"
EVALUATION = Path(HOMES["evaluate"]["evaluation"])


@dataclass(frozen=True)
class TrainedModel:
    """One model or an ensemble, and how its probabilities become predictions."""

    predictor: BasePredictor
    paths: tuple[Path, ...]
    points: OperatingPoints
    inference: InferenceSettings

    def to_json(self) -> dict[str, Any]:
        return {
            "fingerprint": self.predictor.fingerprint,
            "synthetic": self.predictor.synthetic,
            "not_trained": list(self.predictor.not_trained),
            "checkpoints": [
                {
                    "path": str(path),
                    "fingerprint": member.fingerprint,
                    "stage": member.stage,
                    "data": member.data_name,
                }
                for path, member in zip(self.paths, self.predictor.checkpoints, strict=True)
            ],
            **self.inference._asdict(),
            "operating_points": self.points.to_json(),
        }


def load_model(
    workspace: Workspace, config: Config, checkpoint: Path | None, overrides: Mapping[str, Any]
) -> TrainedModel:
    """Load one model and the thresholds that its evaluation chose.

    Args:
        workspace: its joint model is the default.
        config: the device, and the thresholds where the evaluation chose none.
        checkpoint: a file of another model; the thresholds are those of the workspace around it.
        overrides: fields of `InferenceSettings` set by the user; the others are as in the evaluation.

    Raises:
        UsageError: no model is trained here, or the file is missing.
        CheckpointError: the file is damaged or not a checkpoint.
        WorkspaceError: the file of chosen thresholds is damaged.
    """
    path = checkpoint or workspace.root / CHECKPOINT
    if checkpoint is not None and not checkpoint.exists():
        raise UsageError(f"--checkpoint {checkpoint} does not exist; name a best_model.pth")
    if checkpoint is None and not path.is_file():
        raise UsageError(
            f"no model is trained in {workspace.root} yet: there is no {CHECKPOINT}. Run "
            "`slicewise run --until evaluate` first, or name a model with --checkpoint"
        )
    loaded, above = load_checkpoint(path), path.absolute().parents
    root = above[min(2, len(above) - 1)]  # of the workspace that the checkpoint lies in
    points = read_operating_points(
        root / EVALUATION / CALIBRATION_NAME,
        loaded.weights_digest,
        Postprocessing.configured(config.evaluation),
        overrides,
    )
    inference = (points.inference or config.evaluation.inference)._replace(**overrides)
    predictor = Predictor(loaded, config.runtime.device, inference=inference)
    return TrainedModel(predictor, (path,), points, inference)


def load_ensemble(workspace: Workspace, config: Config) -> TrainedModel:
    """Load the models of the last cross-validation as one.

    Raises:
        UsageError: as of `fold_checkpoints`.
        CheckpointError: a checkpoint is damaged, or the models need different inputs.
    """
    paths = fold_checkpoints(workspace)
    inference = config.evaluation.inference
    points = default_operating_points(
        Postprocessing.configured(config.evaluation),
        "every fold chose thresholds for its own model, and none were chosen for the ensemble",
    )
    ensemble = Ensemble.load(paths, config.runtime.device, inference=inference)
    return TrainedModel(ensemble, tuple(paths), points, inference)


def fold_checkpoints(workspace: Workspace) -> Sequence[Path]:
    """Return the checkpoints of the last cross-validation, fold by fold.

    A run that was stopped leaves folds of the run before it: all must have the same settings.

    Raises:
        UsageError: there was none, or some folds are not trained, or with other settings.
    """
    first_split = _split(workspace, 1)
    if first_split is None or not num_folds(workspace):
        raise UsageError(
            f"{workspace.root} holds no cross-validation; run `slicewise run --folds 5` first, "
            "or leave --ensemble out"
        )
    folds = int(first_split.identity.settings["split.folds"])
    missing = [fold for fold in range(1, folds + 1) if not _is_trained(workspace, fold, folds)]
    if missing:
        raise UsageError(
            f"fold {', '.join(map(str, missing))} of {folds} is not trained on the present split; "
            f"run `slicewise run --folds {folds}` first"
        )
    settings = [
        {
            path.name: receipt.identity.settings
            for path in (_fold(workspace, fold) / "checkpoints").glob("*")
            if (receipt := Receipt.read(path))
        }
        for fold in range(1, folds + 1)
    ]
    others = [fold for fold, stages in enumerate(settings, 1) if stages != settings[0]]
    if others:
        raise UsageError(
            f"fold {', '.join(map(str, others))} of {folds} was trained with other settings than fold 1; run "
            f"`slicewise run --folds {folds}` to the end first, with the settings that you want"
        )
    return [_fold(workspace, fold) / CHECKPOINT for fold in range(1, folds + 1)]


def _is_trained(workspace: Workspace, fold: int, folds: int) -> bool:
    """Whether a fold has a model that was trained on the present split; it may be left from an older one."""
    split, trained = _split(workspace, fold), Receipt.read((_fold(workspace, fold) / CHECKPOINT).parent)
    if split is None or trained is None or not (_fold(workspace, fold) / CHECKPOINT).is_file():
        return False
    split_fingerprint = trained.identity.needs.get(fold_name("split", fold))
    return split.identity.settings.get("split.folds") == folds and split_fingerprint == split.fingerprint


def _split(workspace: Workspace, fold: int) -> Receipt | None:
    return Receipt.read(_fold(workspace, fold) / "data" / "split")


def _fold(workspace: Workspace, fold: int) -> Path:
    return workspace.root / FOLDS_DIR / str(fold)
