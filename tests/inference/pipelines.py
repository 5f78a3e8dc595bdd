"""Pipelines for tests."""

from slicewise.config.compose import compose
from slicewise.config.schema.evaluation import InferenceSettings
from slicewise.inference.operating_points import OperatingPoints
from slicewise.inference.pipeline import Pipeline
from slicewise.models.checkpoint import Checkpoint

PLAIN = InferenceSettings()


def pipeline(
    *checkpoints: Checkpoint,
    inference: InferenceSettings = PLAIN,
    batch_size: int = 8,
    points: OperatingPoints | None = None,
) -> Pipeline:
    """Return a pipeline on the CPU, by default without augmentation and with the configured thresholds."""
    settings = compose([f"evaluation.batch_size={batch_size}"]).evaluation
    return Pipeline(checkpoints, settings, device="cpu", inference=inference, points=points)
