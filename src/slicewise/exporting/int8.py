"""Static int8: weights by channel, activations by ranges measured on slices of training patients.

onnxruntime writes QDQ nodes (Jacob 2018), and NNCF their like for OpenVINO. Processors without VNNI add pairs
of 8-bit products in 16 bits: there the weights of ONNX have 7 bits, so that these sums do not saturate. The
classification head, a thousandth of the work, stays in fp32: its rounding costs AUC.
"""

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slicewise.core.errors import UsageError
from slicewise.core.machine import processor_flags
from slicewise.core.registry import Registry

Floats = NDArray[np.float32]
_BATCH: Final = 8
_VNNI: Final = ("avx512_vnni", "avx_vnni", "asimddp", "i8mm")


class Calibration(NamedTuple):
    """Prepared slices of training patients."""

    images: Floats
    """[S, C, N, N]"""
    presence: Floats
    """[S, C]"""

    def batches(self) -> Iterator[dict[str, Floats]]:
        """Yield the inputs of a graph."""
        for start in range(0, len(self.images), _BATCH):
            part = slice(start, start + _BATCH)
            yield {"images": self.images[part], "presence": self.presence[part]}


Quantizer = Callable[[Path, Path, Calibration], Sequence[str]]
"""Reads a graph, writes another, and returns the names of its files; the first one is opened"""
QUANTIZERS: Final[Registry[Quantizer]] = Registry(
    "quantizers",
    {
        "onnx": "slicewise.exporting.int8:quantize_onnx",
        "openvino": "slicewise.exporting.int8:quantize_openvino",
    },
)


def has_vnni() -> bool:
    """Whether the processor multiplies 8-bit integers in one instruction; without, int8 is seldom faster."""
    return not processor_flags().isdisjoint(_VNNI)


def quantize_onnx(source: Path, target: Path, calibration: Calibration) -> Sequence[str]:
    """Write a graph of ONNX with QDQ nodes around its convolutions and linear layers."""
    quantization = _package("onnxruntime.quantization", "onnx")

    base: Any = quantization.CalibrationDataReader

    class Reader(base):  # type: ignore[misc]  # of a package without types
        def __init__(self) -> None:
            self._batches = calibration.batches()

        def get_next(self) -> dict[str, Floats] | None:
            return next(self._batches, None)

    logging.getLogger().addFilter(_is_no_advice)
    try:
        quantization.quantize_static(
            str(source),
            str(target),
            Reader(),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=not has_vnni(),
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=["Conv", "MatMul", "Relu", "Clip"],  # what lies between them joins if it can
        )
    finally:
        logging.getLogger().removeFilter(_is_no_advice)
    return [target.name]


def _is_not_about_cuda(record: logging.LogRecord) -> bool:
    return "CUDA" not in record.getMessage()


def _is_no_advice(record: logging.LogRecord) -> bool:
    return "pre-process" not in record.getMessage()


def quantize_openvino(source: Path, target: Path, calibration: Calibration) -> Sequence[str]:
    """Write a graph of OpenVINO with FakeQuantize nodes, as NNCF places them."""
    logging.getLogger("torch.utils.cpp_extension").addFilter(_is_not_about_cuda)  # which nncf looks for
    nncf, openvino = _package("nncf", "openvino"), _package("openvino", "openvino")
    nncf.set_log_level(logging.ERROR)
    # By default ranges are means over batches, which cut off what few slices have: logits are then 1.5 to 9
    # times as far off. NNCF's slow correction of biases fails on real pictures: all logits shift by 0.4.
    ranges = _package("nncf.quantization.range_estimator", "openvino").RangeEstimatorParametersSet
    # Its bars would be the only ones of this command with another look.
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        model = openvino.Core().read_model(source)
        heads = [
            op.get_friendly_name()
            for op in model.get_ops()
            if op.get_type_name() == "MatMul" and op.get_output_partial_shape(0).rank.get_length() == 2
        ]
        quantized = nncf.quantize(
            model,
            nncf.Dataset([*calibration.batches()]),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(calibration.images),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                activations_range_estimator_params=ranges.MINMAX
            ),
            ignored_scope=nncf.IgnoredScope(names=heads),
        )
    openvino.save_model(quantized, target, compress_to_fp16=False)
    return [target.name, target.with_suffix(".bin").name]


def _package(name: str, runner: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UsageError(
            f"int8 of {runner} needs {name} ({error}): pip install 'slicewise[compression]'"
        ) from error
