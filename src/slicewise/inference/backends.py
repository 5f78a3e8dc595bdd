"""Backends: what runs a model's forward pass. Other packages add theirs as `slicewise.backends`.

`torch` runs a checkpoint; `onnx` and `openvino` run the graphs of a bundle (`slicewise.runtime`), which need
no torch.
"""

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from slicewise.core.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from slicewise.config.schema.model import TaskName
    from slicewise.inference.ensemble import TTATransform

Floats = NDArray[np.float32]


Forward: TypeAlias = "Callable[[Tensor, Tensor], Mapping[TaskName, Tensor]]"
"""From images [B, C, N, N] and presence [B, C], fp32 on the pipeline's device, to the logits of each task
of the checkpoint: segmentation [B, channel, N, N], classification [B, channel]"""


@runtime_checkable
class Averages(Protocol):
    """A backend that gives probabilities itself, from arrays and without torch."""

    def average(
        self, images: Floats, presence: Floats, transforms: "tuple[TTATransform, ...]"
    ) -> tuple[Floats, Floats]:
        """Return the mean over augmentations: of pixels [B, K, N, N], of slices [B] or [B, C]."""
        ...


Member: TypeAlias = "Forward | Averages"
BACKENDS: Final[Registry[Any]] = Registry(
    "backends",
    {
        "torch": "slicewise.inference.torch_backend:Torch",
        "onnx": "slicewise.inference.graph_backend:GraphBackend",
        "openvino": "slicewise.inference.graph_backend:GraphBackend",
    },
)
"""Functions of a checkpoint and a torch device that return a `Forward`; those of a bundle's graphs, of the
bundle, the number of threads and the name of a graph, return an `Averages`."""
