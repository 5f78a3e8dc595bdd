"""What a file of weights may hold: tensors, numbers, texts and containers of them, of a sane size."""

from collections.abc import Mapping
from typing import Any, Final

from torch import Tensor

_MAX_NODES: Final = 200_000
_MAX_DEPTH: Final = 12
_MAX_CHARACTERS: Final = 1 << 16
_LEAF_TYPES: Final = (type(None), bool, int, float, str)


def require_safe_content(content: Any) -> None:
    """Walk what was unpickled and count each visit: what repeats its parts a billion times is refused.

    Printing or comparing such a value would take for ever, so it must not reach a message or a check.

    Raises:
        ValueError: it holds something else, is nested too deeply or too large, or a tensor claims more
            elements than its memory has.
    """
    pending: list[tuple[Any, int]] = [(content, 0)]
    num_visited = 0
    while pending:
        value, depth = pending.pop()
        num_visited += 1
        if num_visited > _MAX_NODES or depth > _MAX_DEPTH:
            raise ValueError("it is nested too deeply or holds too many values")
        if isinstance(value, Mapping):
            pending += [(part, depth + 1) for pair in value.items() for part in pair]
        elif isinstance(value, list | tuple):
            pending += [(part, depth + 1) for part in value]
        else:
            _require_leaf(value)


def _require_leaf(value: Any) -> None:
    if isinstance(value, Tensor):
        _require_storage(value)
    elif not isinstance(value, _LEAF_TYPES):
        raise ValueError(f"it holds a {type(value).__name__}")  # noqa: TRY004 - the content is at fault
    elif isinstance(value, str) and len(value) > _MAX_CHARACTERS:
        raise ValueError("it holds an endless text")
    elif isinstance(value, int) and value.bit_length() > 128:
        raise ValueError("it holds an endless number")


def _require_storage(tensor: Tensor) -> None:
    """A stride of 0 shows one number a billion times; copying it would need the memory for all of them."""
    if tensor.is_sparse or tensor.is_quantized or tensor.device.type != "cpu":
        raise ValueError(f"it holds a tensor of layout {tensor.layout} on {tensor.device}")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError(f"a tensor of shape {tuple(tensor.shape)} has no memory for its elements")
