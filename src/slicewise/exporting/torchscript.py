"""TorchScript: a trace of the module, for programs in C++ that link torch. Torch itself deprecates it."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from slicewise.core.errors import CheckpointError
from slicewise.exporting.formats import Exported, Written
from slicewise.exporting.graph import example
from slicewise.runtime.graphs import Floats

FILE: Final = "model.ts"
_JIT: Final[Any] = torch.jit
_OUTPUTS: Final = "outputs.txt"
"""File within the archive: the names of the outputs"""


def write(exported: Exported, folder: Path) -> Written:
    """Write `model.ts`, in which convolutions and batch norms are one."""
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")  # of what is deprecated, and of sizes that a trace makes constant
        traced = _JIT.trace(exported.graph, example(exported.checkpoint, 2), check_trace=False)
        frozen = _JIT.freeze(traced)
        names = "\n".join(exported.graph.outputs)
        _JIT.save(frozen, str(folder / FILE), _extra_files={_OUTPUTS: names})
    return Written("torchscript", (FILE,), {"free": ["batch"]})


class TorchScript:
    """A graph of TorchScript, which torch runs.

    Raises:
        CheckpointError: the file is none.
    """

    def __init__(self, path: Path, num_threads: int = 0) -> None:  # noqa: ARG002  # torch's own number
        extra = {_OUTPUTS: b""}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._module = _JIT.load(str(path), _extra_files=extra)
        except RuntimeError as error:
            raise CheckpointError(f"{path} is not read by torch ({error!s:.200}); export it again") from error
        self._names = bytes(extra[_OUTPUTS]).decode().split("\n")

    def __call__(self, images: Floats, presence: Floats) -> Mapping[str, Floats]:
        """Return the outputs by name."""
        with torch.inference_mode():
            results = self._module(torch.from_numpy(images), torch.from_numpy(presence.copy()))
        return {name: result.numpy() for name, result in zip(self._names, results, strict=True)}
