"""How a trained network is asked: the settings that change its answers without changing its weights."""

from typing import Final, NamedTuple


class InferenceSettings(NamedTuple):
    """Part of the `evaluation` section. What was chosen for one way of asking holds for no other."""

    flips: bool = False
    rotation: float = 0.0
    mask_smoothing: float = 0.0
    class_smoothing: float = 0.0

    def describe(self) -> str:
        """Return the settings as they stand on a command line."""
        return " ".join(f"evaluation.{key}={value}" for key, value in self._asdict().items())


PLAIN_INFERENCE: Final = InferenceSettings()
"""Each slice once, and by itself."""
