"""Checkpoints as Hugging Face keeps them: weights in `model.safetensors`, all else in `config.json`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from slicewise.core.errors import CheckpointError, WorkspaceError
from slicewise.core.files import atomic_write, read_json, write_json

WEIGHTS_NAME: Final = "model.safetensors"
CONFIG_NAME: Final = "config.json"


def save_weights(path: Path, content: Mapping[str, Any]) -> None:
    """Write the `weights` of a checkpoint's content to `path`, and the rest as JSON beside it.

    Left out are the recorded program, which is built again, and the hashes of the training patients: whoever
    has the file could try names.
    """
    fields = dict(content)
    weights: dict[str, Tensor] = fields.pop("weights")
    fields["program"] = None
    if fields["reference"] is not None:
        fields["reference"] = {**fields["reference"], "patients": ()}
    write_json(path.with_name(CONFIG_NAME), {"library_name": "slicewise", **fields})
    with atomic_write(path) as stream:
        contiguous = {name: tensor.contiguous() for name, tensor in weights.items()}
        stream.write(safetensors.torch.save(contiguous, {"format": "pt"}))


def load_weights_and_config(path: Path) -> dict[str, Any]:
    """Return what `save_weights` wrote; nothing in the files is run.

    Raises:
        CheckpointError: a file is missing or damaged.
    """
    config = path.with_name(CONFIG_NAME)
    try:
        fields = read_json(config)
        weights = safetensors.torch.load_file(path)
    except FileNotFoundError as error:
        missing = config if path.is_file() else path
        raise CheckpointError(
            f"{missing} does not exist; {WEIGHTS_NAME} needs {CONFIG_NAME} beside it"
        ) from error
    except (SafetensorError, WorkspaceError, OSError, ValueError) as error:
        raise CheckpointError(f"{path.parent} is damaged ({error}); download or export it again") from error
    if not isinstance(fields, dict):
        raise CheckpointError(f"{config} is no configuration of a SliceWise model; export it again")
    return {**fields, "weights": weights}
