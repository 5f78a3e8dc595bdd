"""OpenVINO IR, converted from the graph of ONNX, with weights in fp32."""

import importlib
import tempfile
from pathlib import Path
from typing import Any, Final

from slicewise.core.errors import UsageError
from slicewise.exporting import onnx
from slicewise.exporting.formats import Exported, Written

FILE: Final = "openvino.xml"


def write(exported: Exported, folder: Path) -> Written:
    """Write `openvino.xml` and `openvino.bin`.

    Raises:
        UsageError: a package is missing, or the model has an operation that ONNX does not have.
    """
    try:
        openvino: Any = importlib.import_module("openvino")
    except ImportError as error:
        raise UsageError(f"OpenVINO needs openvino ({error}): pip install 'slicewise[export]'") from error
    with tempfile.TemporaryDirectory() as temporary:
        written = onnx.write(exported, Path(temporary))
        model = openvino.convert_model(str(Path(temporary) / onnx.FILE))
        openvino.save_model(model, str(folder / FILE), compress_to_fp16=False)
    return Written("openvino", (FILE, Path(FILE).with_suffix(".bin").name), dict(written.details))
