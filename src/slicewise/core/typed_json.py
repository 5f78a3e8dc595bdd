"""JSON as dataclasses, every type checked: records of ours that somebody else may have edited.

pydantic does this too, but takes 0.1 s to read the plug-ins of all packages and to build a validator.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from itertools import repeat
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints


def from_json(kind: Any, value: Any) -> Any:
    """Return JSON as a value of a type: of a dataclass or named tuple, a map, a sequence, a plain type.

    Functions in `Annotated` check and return the value. Fields that a dataclass does not have are ignored.

    Raises:
        TypeError, ValueError: it has another type, or a field is missing or refused.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any or (origin is Literal and value in parts):
        return value
    if origin is Annotated:
        value = from_json(parts[0], value)
        for check in cast(Sequence[Callable[[Any], Any]], parts[1:]):
            value = check(value)
        return value
    if origin in (Union, UnionType):
        (some,) = (part for part in parts if part is not NoneType)
        return None if value is None else from_json(some, value)
    if isinstance(value, dict):
        return _from_object(kind, value)
    if isinstance(value, list):
        return _from_array(kind, value)
    if type(value) is kind or (kind is float and type(value) is int):
        return value
    raise TypeError(f"expected {kind}, not {value!r}")


def _from_object(kind: Any, tree: dict[str, Any]) -> Any:
    if get_origin(kind) in (Mapping, dict):
        of_key, of_value = get_args(kind)
        if of_key is of_value is str and all(type(each) is str for each in tree.values()):
            return tree  # there may be many: digests of files
        return {from_json(of_key, key): from_json(of_value, each) for key, each in tree.items()}
    if not hasattr(kind, "__dataclass_fields__"):
        raise TypeError(f"expected {kind}, not an object")
    hints = _hints(kind)
    return kind(**{name: from_json(hints[name], tree[name]) for name in hints if name in tree})


def _from_array(kind: Any, values: list[Any]) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Sequence, list):
        return [from_json(parts[0], each) for each in values]
    if hasattr(kind, "_fields"):
        return kind(
            *(from_json(each, value) for each, value in zip(_hints(kind).values(), values, strict=True))
        )
    if origin is not tuple:
        raise TypeError(f"expected {kind}, not an array")
    kinds = repeat(parts[0], len(values)) if parts[-1] is ... else parts
    return tuple(from_json(each, value) for each, value in zip(kinds, values, strict=True))


@cache
def _hints(kind: Any) -> dict[str, Any]:
    """Return {field: type} of a dataclass or named tuple."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)} if is_dataclass(kind) else hints
