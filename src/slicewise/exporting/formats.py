"""The formats of an export by name. Other packages add theirs as `slicewise.formats`."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from slicewise.core.registry import Registry

if TYPE_CHECKING:
    from slicewise.exporting.graph import Calibrations, ExportedGraph
    from slicewise.models.checkpoint import Checkpoint


@dataclass(frozen=True, eq=False)
class Exported:
    """What every writer is given: the checkpoint and its module."""

    checkpoint: "Checkpoint"
    calibrations: "Calibrations"
    num_threads: int = 0
    batch_size: int = 1
    """Most slices that are predicted at once"""

    @cached_property
    def graph(self) -> "ExportedGraph":
        """The module, built once for all formats."""
        from slicewise.exporting.graph import ExportedGraph

        return ExportedGraph(self.checkpoint, self.calibrations).eval()

    @property
    def size(self) -> int:
        """Rows and columns of a slice."""
        return self.checkpoint.preprocessing.image_size


@dataclass(frozen=True)
class Written:
    """The files of one format."""

    runner: str
    """What runs it, see `runtime.graphs.GRAPHS`"""
    files: tuple[str, ...]
    """Names in the folder; the first one is opened"""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Such as the opset, and which sizes are free"""
    remarks: tuple[str, ...] = ()
    """For the user: what is left to do, say"""
    name: str | None = None
    """Of the graph in the bundle, where it is not that of the format"""


Writer: TypeAlias = Callable[[Exported, Path], Written]
"""Writes its files into a folder"""
FORMATS: Final[Registry[Writer]] = Registry(
    "formats",
    {
        "onnx": "slicewise.exporting.onnx:write",
        "openvino": "slicewise.exporting.openvino:write",
        "tensorrt": "slicewise.exporting.tensorrt:write",
        "torchscript": "slicewise.exporting.torchscript:write",
    },
)
