"""What runs the graphs of a bundle: from arrays to arrays, without torch."""

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from slicewise.core.errors import CheckpointError, UsageError
from slicewise.core.machine import usable_cores
from slicewise.core.registry import Registry
from slicewise.runtime.bundle import RUNNERS

Floats = NDArray[np.float32]
Graph: TypeAlias = Callable[[Floats, Floats], Mapping[str, Floats]]
"""From images [B, C, N, N] and presence [B, C] to the outputs by name, see `runtime.bundle`"""

GRAPHS: Final[Registry[Callable[[Path, int], Graph]]] = Registry(
    "graphs",
    {
        "onnx": "slicewise.runtime.graphs:Onnx",
        "openvino": "slicewise.runtime.graphs:OpenVino",
        "torchscript": "slicewise.exporting.torchscript:TorchScript",
    },
)
"""Functions of a file and the number of threads (0: all cores) that open a graph"""


class Onnx:
    """A graph of ONNX in onnxruntime, on the CPU.

    Raises:
        UsageError: onnxruntime is not installed.
        CheckpointError: the file is no graph of ONNX.
    """

    def __init__(self, path: Path, num_threads: int = 0) -> None:
        runtime = _package("onnx")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = num_threads or usable_cores()
        options.log_severity_level = 3  # errors
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # it raises many kinds of its own
            raise _unreadable(path, "onnxruntime", error) from error
        self._names = [output.name for output in self._session.get_outputs()]

    def __call__(self, images: Floats, presence: Floats) -> Mapping[str, Floats]:
        """Return the outputs by name."""
        try:
            results = self._session.run(self._names, {"images": images, "presence": presence})
        except Exception as error:  # it raises many kinds of its own
            raise _not_run("onnxruntime", error) from error
        return dict(zip(self._names, results, strict=True))


class OpenVino:
    """A graph of OpenVINO on the CPU, in fp32; without AVX2 it cannot enlarge by nearest neighbours.

    Raises:
        UsageError: OpenVINO is not installed.
        CheckpointError: the file is no graph of OpenVINO.
    """

    def __init__(self, path: Path, num_threads: int = 0) -> None:
        openvino = _package("openvino")
        settings = {"INFERENCE_NUM_THREADS": num_threads or usable_cores(), "PERFORMANCE_HINT": "LATENCY"}
        # Without it processors with bf16 would round every convolution to 8 bits.
        settings["INFERENCE_PRECISION_HINT"] = "f32"
        try:
            self._compiled = openvino.Core().compile_model(path, "CPU", settings)
        except Exception as error:
            raise _unreadable(path, "OpenVINO", error) from error
        self._names = [output.get_any_name() for output in self._compiled.outputs]

    def __call__(self, images: Floats, presence: Floats) -> Mapping[str, Floats]:
        """Return the outputs by name."""
        try:
            results = self._compiled({"images": images, "presence": presence})
        except RuntimeError as error:
            raise _not_run("OpenVINO", error) from error
        return {name: results[place] for place, name in enumerate(self._names)}


def _package(runner: str) -> Any:
    try:
        return importlib.import_module(RUNNERS[runner])
    except ImportError as error:
        extra = "runtime" if runner == "onnx" else "export"
        raise UsageError(
            f"{runner} graphs need the package {RUNNERS[runner]} ({error}): pip install 'slicewise[{extra}]'"
        ) from error


def _unreadable(path: Path, program: str, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path} is not read by {program} ({error!s:.200}); export it again")


def _not_run(program: str, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())[:300]
    return CheckpointError(f"{program} cannot run the graph here ({reason}); take another backend")
