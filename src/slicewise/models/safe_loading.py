"""Safe reading and writing of weight files: tensors and plain values of a limited size, no code."""

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch
from torch import Tensor

from slicewise.core.errors import CheckpointError
from slicewise.core.files import atomic_write

_MAX_VALUES: Final = 200_000
_MAX_DEPTH: Final = 12
_MAX_CHARACTERS: Final = 1 << 16
_MAX_INT_BITS: Final = 128
_MAX_MESSAGE: Final = 400
_SCALARS: Final = (type(None), bool, int, float, str)


def save_safely(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values atomically."""
    with atomic_write(path) as stream:
        torch.save(dict(content), stream)


def load_safely(path: Path) -> Any:
    """Return the tensors and plain values of a file; code inside it is never run (`weights_only`).

    Raises:
        CheckpointError: the file is missing, cannot be read, or holds something else.
    """
    try:
        _require_uncompressed_archive(path)
        with warnings.catch_warnings(action="ignore"):  # torch warns of the pickles that it then refuses
            content = torch.load(path, map_location="cpu", weights_only=True)
        _require_plain_values(content)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist; train first or name another checkpoint") from error
    except UnpicklingError as error:
        raise CheckpointError(
            f"{path} was refused: it holds Python objects, which could run code when read; "
            "only checkpoints written by SliceWise are read"
        ) from error
    except Exception as error:  # torch's reader raises whatever a damaged pickle makes Python raise
        raise CheckpointError(
            f"{path} is damaged or no checkpoint ({describe_error(error)}); name another file or, if a run "
            "wrote it, move it aside and train again"
        ) from error
    return content


def describe_error(error: Exception) -> str:
    """Return type and message of an error, shortened: a damaged file may put anything into it."""
    return f"{type(error).__name__}: {error}"[:_MAX_MESSAGE]


def _require_uncompressed_archive(path: Path) -> None:
    """Refuse what torch never writes: an archive whose content is larger than the file itself.

    A compressed or overlapping entry could claim any amount of memory. Files of the format before torch 1.6
    carry sizes that nothing checks, and were never written by SliceWise.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if compressed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ValueError("its entries are compressed or larger than the file")


def _require_plain_values(content: Any) -> None:
    """Refuse content of other types or of excessive size; a part counts each time that it is referenced.

    Printing or comparing a value that repeats its parts a billion times would never end, so it must not reach
    a message or a check.
    """
    pending: list[tuple[Any, int]] = [(content, 0)]
    num_values = 0
    while pending:
        value, depth = pending.pop()
        num_values += 1
        if num_values > _MAX_VALUES or depth > _MAX_DEPTH:
            raise ValueError("it is nested too deeply or holds too many values")
        if isinstance(value, Mapping):
            pending += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list | tuple):
            pending += [(part, depth + 1) for part in value]
        else:
            _require_plain_value(value)


def _require_plain_value(value: Any) -> None:
    if isinstance(value, Tensor):
        if value.is_sparse or value.is_quantized or value.device.type != "cpu":
            raise ValueError(f"it holds a tensor of layout {value.layout} on {value.device}")
        # A stride of 0 repeats one number a billion times; a copy would need the memory for all of them.
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise ValueError(f"a tensor of shape {tuple(value.shape)} has no memory for its elements")
    elif not isinstance(value, _SCALARS):
        raise ValueError(f"it holds a {type(value).__name__}")  # noqa: TRY004 - the content is at fault
    elif isinstance(value, str) and len(value) > _MAX_CHARACTERS:
        raise ValueError(f"it holds a text of {len(value)} characters")
    elif isinstance(value, int) and value.bit_length() > _MAX_INT_BITS:
        raise ValueError(f"it holds an integer of {value.bit_length()} bits")
