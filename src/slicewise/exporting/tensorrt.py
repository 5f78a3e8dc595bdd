"""TensorRT: an engine where its package and a GPU are at hand, else the graph of ONNX and the command for it.

An engine runs on the kind of GPU and the version of TensorRT that built it alone. It is not compared with the
checkpoint: SliceWise runs no engines.
"""

import shlex
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch

from slicewise.core.errors import UsageError
from slicewise.exporting import onnx
from slicewise.exporting.formats import Exported, Written

ENGINE: Final = "model.engine"
_PROFILE: Final = ("min", "opt", "max")


def write(exported: Exported, folder: Path) -> Written:
    """Write `model.onnx`, and `model.engine` where that is possible.

    Raises:
        UsageError: a package is missing, or TensorRT cannot build an engine of the model.
    """
    graph = onnx.write(exported, folder)
    shapes = _shapes(exported, free_batch="batch" in graph.details["free"])
    command = trtexec_command(shapes)
    lacking = _lacking()
    if lacking is None:
        _build(folder, shapes)
        remark = f"tensorrt: {ENGINE} for this GPU; it is not compared with the checkpoint"
        return Written("tensorrt", (ENGINE, onnx.FILE), {"trtexec": command}, (remark,))
    remark = f"tensorrt: no engine is built here, {lacking}; where both are, in the folder: {command}"
    details = {**graph.details, "trtexec": command}
    return replace(graph, name="onnx", details=details, remarks=(*graph.remarks, remark))


def _lacking() -> str | None:
    """Return what is missing for an engine; None where one can be built."""
    missing = [] if find_spec("tensorrt") else ["the package tensorrt is not installed"]
    missing += [] if torch.cuda.is_available() else ["there is no GPU"]
    return " and ".join(missing) or None


def _shapes(exported: Exported, *, free_batch: bool) -> dict[str, list[tuple[int, ...]]]:
    """Return the smallest, the usual and the largest shape of each input."""
    channels, size = len(exported.checkpoint.preprocessing.channels), exported.size
    batches = (1, exported.batch_size, exported.batch_size) if free_batch else (2, 2, 2)
    return {
        "images": [(batch, channels, size, size) for batch in batches],
        "presence": [(batch, channels) for batch in batches],
    }


def trtexec_command(shapes: dict[str, list[tuple[int, ...]]]) -> str:
    """Return the command that builds the engine from `model.onnx`, in fp32 as the checkpoint predicts."""
    words = ["trtexec", f"--onnx={onnx.FILE}", f"--saveEngine={ENGINE}", "--noTF32"]
    for place, name in enumerate(_PROFILE):
        listed = (f"{key}:{'x'.join(map(str, each[place]))}" for key, each in shapes.items())
        words.append(f"--{name}Shapes={','.join(listed)}")
    return shlex.join(words)


def _build(folder: Path, shapes: dict[str, list[tuple[int, ...]]]) -> None:
    """Write the engine of the graph of ONNX, by TensorRT 10's API."""
    tensorrt: Any = import_module("tensorrt")
    logger = tensorrt.Logger(tensorrt.Logger.ERROR)
    builder = tensorrt.Builder(logger)
    network, config = builder.create_network(0), builder.create_builder_config()
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse((folder / onnx.FILE).read_bytes()):
        faults = "; ".join(str(parser.get_error(number)) for number in range(parser.num_errors))
        raise UsageError(f"TensorRT does not read the graph ({faults:.300}); leave --format tensorrt out")
    config.clear_flag(tensorrt.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    for name, bounds in shapes.items():
        profile.set_shape(name, *bounds)
    config.add_optimization_profile(profile)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise UsageError("TensorRT builds no engine of this model here; leave --format tensorrt out")
    (folder / ENGINE).write_bytes(bytes(engine))
