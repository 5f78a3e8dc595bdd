"""ONNX by torch's exporter: convolutions and batch norms are one; batch and size are free where possible."""

import importlib
import warnings
from contextlib import redirect_stdout
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from slicewise.core.errors import UsageError
from slicewise.exporting.formats import Exported, Written
from slicewise.exporting.graph import INPUTS, example

OPSET: Final = 20
FILE: Final = "model.onnx"
_PACKAGES: Final = ("onnx", "onnxscript")
_FACTOR, _SIZE = 2, 3
"""Inputs of a Resize: it has one of them"""


def write(exported: Exported, folder: Path) -> Written:
    """Write `model.onnx`.

    Raises:
        UsageError: a package is missing, or the model has an operation that ONNX does not have.
    """
    for name in _PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise UsageError(f"ONNX needs {name} ({error}): pip install 'slicewise[export]'") from error
    content, free = serialise(exported)
    (folder / FILE).write_bytes(content)
    return Written("onnx", (FILE,), {"opset": OPSET, "free": free})


@lru_cache(maxsize=1)
def serialise(exported: Exported) -> tuple[bytes, list[str]]:
    """Return the bytes of the file and which sizes are free; once for all formats that are made from it."""
    program, free = _export(exported)
    model: Any = program.model
    model.doc_string = ""
    for node in model.graph.all_nodes():
        node.metadata_props.clear()  # the lines of the source, with the folders of this machine
        node.doc_string = None
    _state_factors(model, exported.size)
    return program.model_proto.SerializeToString(deterministic=True), free


def _state_factors(model: Any, size: int) -> None:
    """State the whole factor of a Resize in place of the size of its result, where it has one.

    onnxruntime keeps its blocked layout of channels around such a Resize alone, and runs it on all threads.
    """
    ir: Any = importlib.import_module("onnx_ir")
    for number, node in enumerate(node for node in model.graph if node.op_type == "Resize"):
        factors = _factors(node, size)
        if len(node.inputs) <= _SIZE or factors is None or factors != _factors(node, 2 * size):
            continue
        value = ir.Value(name=f"factors_{number}", const_value=ir.tensor(np.array(factors, np.float32)))
        model.graph.register_initializer(value)
        node.replace_input_with(_FACTOR, value)
        node.resize_inputs(_SIZE)


def _factors(node: Any, size: int) -> list[int] | None:
    """Return by how much a node enlarges each axis of images of `size`, None where a factor is not whole."""
    sides = [
        [
            dim if isinstance(dim, int) else dim.evaluate(dict.fromkeys(dim.free_symbols(), size))
            for dim in shape
        ]
        for shape in (node.inputs[0].shape, node.outputs[0].shape)
    ]
    if any(not old or new is None or new % old for old, new in zip(*sides, strict=True)):
        return None
    return [new // old for old, new in zip(*sides, strict=True)]


def _export(exported: Exported) -> tuple[Any, list[str]]:
    """Return the program and which sizes are free: of any batch, and of any image where the model allows."""
    free = torch.export.Dim.DYNAMIC
    # Sizes that occur once: torch would take equal ones for the same size.
    images, presence = example(exported.checkpoint, 2, exported.size)
    tries: list[tuple[dict[int, Any], list[str]]] = [
        ({0: free, 2: free, 3: free}, ["batch", "size"]),
        ({0: free}, ["batch"]),
    ]
    for dimensions, names in tries:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")  # of torch about its own exporter
            try:
                program = torch.onnx.export(
                    exported.graph,
                    (images, presence),
                    dynamo=True,
                    dynamic_shapes=(dimensions, {0: free}),
                    input_names=INPUTS,
                    output_names=exported.graph.outputs,
                    opset_version=OPSET,
                    verbose=False,
                )
            except Exception as error:  # torch raises many kinds
                fault = error
            else:
                return program, names
    raise UsageError(
        f"torch cannot write this model as ONNX ({type(fault).__name__}: {fault!s:.300}); "
        "use --format torchscript"
    ) from fault
