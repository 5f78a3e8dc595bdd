"""Who answers: the network of the workspace, one that was named, or those of all folds together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicewise.config.schema import Config
from slicewise.config.schema.inference import InferenceSettings
from slicewise.core.errors import UsageError
from slicewise.engine.receipt import Receipt
from slicewise.engine.workspace import Workspace
from slicewise.workflow.folds import FOLDS_DIR, num_folds
from slicewise.workflow.step_names import HOMES, fold_name

if TYPE_CHECKING:
    from slicewise.inference.operating_points import OperatingPoints
    from slicewise.inference.predictor import BasePredictor

CHECKPOINT = Path(HOMES["train.joint"]["checkpoint"]) / "best_model.pth"
EVALUATION = Path(HOMES["evaluate"]["evaluation"])


@dataclass(frozen=True)
class TrainedModel:
    """One network or several as one, and how their probabilities become answers."""

    predictor: "BasePredictor"
    paths: tuple[Path, ...]
    points: "OperatingPoints"
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
    """Load one network and what its evaluation chose.

    Args:
        workspace: whose joint network answers where no other is named.
        config: the device, and the thresholds where nothing was chosen.
        checkpoint: a file of another network; the evaluation of its own workspace is asked for choices.
        overrides: fields of `Asking` that the user settled; the others are as the evaluation had them.

    Raises:
        UsageError: nothing is trained here, or the file is missing.
        CheckpointError: it is damaged or no checkpoint.
        WorkspaceError: what the evaluation chose is damaged.
    """
    from slicewise.inference.operating_points import CALIBRATION_NAME, read_operating_points
    from slicewise.inference.postprocess import Postprocessing
    from slicewise.inference.predictor import Predictor
    from slicewise.models.checkpoint import load_checkpoint

    path = checkpoint or workspace.root / CHECKPOINT
    if checkpoint is not None and not checkpoint.exists():
        raise UsageError(f"--checkpoint {checkpoint} does not exist; name a best_model.pth")
    if checkpoint is None and not path.is_file():
        raise UsageError(
            f"nothing is trained in {workspace.root} yet: there is no {CHECKPOINT}. Run "
            "`slicewise run --until evaluate` first, or name a network with --checkpoint"
        )
    found, root = load_checkpoint(path), path.absolute().parents[min(2, len(path.absolute().parents) - 1)]
    points = read_operating_points(
        root / EVALUATION / CALIBRATION_NAME,
        found.weights_digest,
        Postprocessing.configured(config.evaluation),
        overrides,
    )
    inference = (points.inference or config.evaluation.inference)._replace(**overrides)
    return TrainedModel(
        Predictor(found, config.runtime.device, inference=inference), (path,), points, inference
    )


def load_ensemble(workspace: Workspace, config: Config) -> TrainedModel:
    """Load the networks of the last cross-validation as one.

    Raises:
        UsageError: there was none, or not all of its folds are trained.
        CheckpointError: a checkpoint is damaged, or the networks do not see the same thing.
    """
    from slicewise.inference.ensemble import Ensemble
    from slicewise.inference.operating_points import default_operating_points
    from slicewise.inference.postprocess import Postprocessing

    paths = fold_checkpoints(workspace)
    inference = config.evaluation.inference
    points = default_operating_points(
        Postprocessing.configured(config.evaluation),
        "every fold chose for its own network, and nothing was chosen for all of them together",
    )
    return TrainedModel(
        Ensemble.load(paths, config.runtime.device, inference=inference), tuple(paths), points, inference
    )


def fold_checkpoints(workspace: Workspace) -> Sequence[Path]:
    """Return the networks of the last cross-validation, fold by fold.

    Raises:
        UsageError: there was none, or some of its folds are not trained; names them.
    """
    first = _split(workspace, 1)
    if first is None or not num_folds(workspace):
        raise UsageError(
            f"{workspace.root} holds no cross-validation; run `slicewise run --folds 5` first, "
            "or leave --ensemble out"
        )
    folds = int(first.identity.settings["split.folds"])
    missing = [fold for fold in range(1, folds + 1) if not _is_trained(workspace, fold, folds)]
    if missing:
        raise UsageError(
            f"fold {', '.join(map(str, missing))} of {folds} is not trained with the split that is there; "
            f"run `slicewise run --folds {folds}` first"
        )
    _require_same_settings(workspace, folds)
    return [_fold(workspace, fold) / CHECKPOINT for fold in range(1, folds + 1)]


def _require_same_settings(workspace: Workspace, folds: int) -> None:
    """Refuse networks of several runs: one that was stopped leaves folds of the run before it.

    Raises:
        UsageError: names the folds that were trained unlike the first.
    """
    settings = [_stage_settings(_fold(workspace, fold)) for fold in range(1, folds + 1)]
    others = [fold for fold, found in enumerate(settings, 1) if found != settings[0]]
    if others:
        raise UsageError(
            f"fold {', '.join(map(str, others))} of {folds} was trained with other settings than fold 1; run "
            f"`slicewise run --folds {folds}` to the end first, with the settings that shall hold"
        )


def _stage_settings(fold: Path) -> dict[str, Any]:
    """Return the settings of every stage of a fold."""
    receipts = {path.name: Receipt.read(path) for path in sorted((fold / "checkpoints").glob("*"))}
    return {stage: receipt.identity.settings for stage, receipt in receipts.items() if receipt}


def _is_trained(workspace: Workspace, fold: int, folds: int) -> bool:
    """Whether the network of a fold is there and learnt from today's split; older folds may lie beside it."""
    split, trained = _split(workspace, fold), Receipt.read((_fold(workspace, fold) / CHECKPOINT).parent)
    if split is None or trained is None or not (_fold(workspace, fold) / CHECKPOINT).is_file():
        return False
    split_fingerprint = trained.identity.needs.get(fold_name("split", fold))
    return split.identity.settings.get("split.folds") == folds and split_fingerprint == split.fingerprint


def _split(workspace: Workspace, fold: int) -> Receipt | None:
    return Receipt.read(_fold(workspace, fold) / "data" / "split")


def _fold(workspace: Workspace, fold: int) -> Path:
    return workspace.root / FOLDS_DIR / str(fold)
