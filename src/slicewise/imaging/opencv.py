"""OpenCV, or None where it is not installed: a prediction from an exported model does without (`runtime`)."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

cv2: Final[Any] = import_module("cv2") if find_spec("cv2") else None
