"""The settings of inference that change the predictions of a trained model."""

from typing import Final, NamedTuple


class InferenceSettings(NamedTuple):
    """Part of the section `evaluation`. Thresholds chosen for one combination hold for no other."""

    flips: bool = False
    rotation: float = 0.0
    mask_smoothing: float = 0.0
    class_smoothing: float = 0.0

    def describe(self) -> str:
        """Return the settings as overrides of the command line."""
        return " ".join(f"evaluation.{key}={value}" for key, value in self._asdict().items())


PLAIN_INFERENCE: Final = InferenceSettings()
"""No TTA and no smoothing."""
