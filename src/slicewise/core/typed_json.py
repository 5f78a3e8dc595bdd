"""JSON as dataclasses, every type checked: records of ours that somebody else may have edited.

pydantic does this too, but takes 0.1 s to read the plug-ins of all packages and to build a validator.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin, get_type_hints

Reader = Callable[[Any], Any]


def from_json(kind: Any, value: Any) -> Any:
    """Return JSON as a value of a type: of a dataclass or named tuple, a map, a sequence, a plain type.

    Functions in `Annotated` check and return the value. Fields that a dataclass does not have are ignored.

    Raises:
        TypeError, ValueError: it has another type, or a field is missing or refused.
    """
    return _reader(kind)(value)


@cache  # a receipt may list 10,000 files, whose types are looked at once
def _reader(kind: Any) -> Reader:
    """Return the function that reads JSON of a type."""
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda value: value
    if origin is Annotated:
        return _checked(_reader(parts[0]), cast(Sequence[Reader], parts[1:]))
    if origin in (Union, UnionType):
        (some,) = (part for part in parts if part is not NoneType)
        return _optional(_reader(some))
    if origin in (Mapping, dict):
        return _map(kind, *parts)
    if origin in (Sequence, list) or (origin is tuple and parts[-1] is ...):
        return _array(kind, list if origin is not tuple else tuple, _reader(parts[0]))
    if origin is tuple:
        return _fixed(kind, lambda *values: values, tuple(map(_reader, parts)))
    if hasattr(kind, "_fields"):
        return _fixed(kind, kind, tuple(map(_reader, _hints(kind).values())))
    return _dataclass(kind) if is_dataclass(kind) else _plain(kind, parts if origin is Literal else None)


def _plain(kind: Any, choices: tuple[Any, ...] | None) -> Reader:
    def read(value: Any) -> Any:
        fits = type(value) is kind or (kind is float and type(value) is int)
        if fits if choices is None else value in choices:
            return value
        raise TypeError(f"expected {kind}, not {value!r}")

    return read


def _checked(inner: Reader, checks: Sequence[Reader]) -> Reader:
    def read(value: Any) -> Any:
        value = inner(value)
        for check in checks:
            value = check(value)
        return value

    return read


def _optional(inner: Reader) -> Reader:
    return lambda value: None if value is None else inner(value)


def _map(kind: Any, of_key: Any, of_value: Any) -> Reader:
    read_key, read_value = _reader(of_key), _reader(of_value)

    def read(value: Any) -> Any:
        tree = _require(dict, kind, value)
        if of_key is of_value is str and {*map(type, tree.values())} <= {str}:
            return tree  # there may be many: digests of files
        return {read_key(key): read_value(each) for key, each in tree.items()}

    return read


def _array(kind: Any, build: Callable[[Any], Any], inner: Reader) -> Reader:
    return lambda value: build(map(inner, _require(list, kind, value)))


def _fixed(kind: Any, build: Callable[..., Any], inner: tuple[Reader, ...]) -> Reader:
    def read(value: Any) -> Any:
        values = _require(list, kind, value)
        return build(*(part(each) for part, each in zip(inner, values, strict=True)))

    return read


def _dataclass(kind: Any) -> Reader:
    readers = {name: _reader(hint) for name, hint in _hints(kind).items()}

    def read(value: Any) -> Any:
        tree = _require(dict, kind, value)
        return kind(**{name: inner(tree[name]) for name, inner in readers.items() if name in tree})

    return read


def _require(json_type: type, kind: Any, value: Any) -> Any:
    if type(value) is json_type:
        return value
    raise TypeError(f"expected {kind}, not {value!r}")


def _hints(kind: Any) -> dict[str, Any]:
    """Return {field: type} of a dataclass or named tuple."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)} if is_dataclass(kind) else hints
