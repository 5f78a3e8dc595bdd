"""JSON becomes dataclasses where every type is right, and an error otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple

import pytest

from slicewise.core.typed_json import from_json


def small(number: int) -> int:
    if number > 9:
        raise ValueError("too large")
    return number


@dataclass(frozen=True)
class Part:
    size: Annotated[int, small]
    seconds: float = 0.0
    name: str | None = None


class Pair(NamedTuple):
    left: int
    right: Sequence[str]


@dataclass(frozen=True)
class Whole:
    kind: Literal["a", "b"]
    parts: Mapping[str, Part]
    pairs: tuple[Pair, ...] = ()
    point: tuple[int, str] = (0, "")
    rest: Any = None


def test_it_becomes_what_was_written() -> None:
    tree = {
        "kind": "b",
        "parts": {"x": {"size": 3, "seconds": 2, "name": None, "later": 1}},
        "pairs": [[1, ["y"]]],
        "point": [4, "z"],
        "rest": {"any": [1, None]},
    }
    assert from_json(Whole, tree) == Whole(
        "b", {"x": Part(3, 2.0)}, (Pair(1, ["y"]),), (4, "z"), {"any": [1, None]}
    )


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "c"},
        {"kind": 1},
        {"parts": []},
        {"parts": {"x": {}}},
        {"parts": {"x": {"size": 10}}},
        {"parts": {"x": {"size": "3"}}},
        {"parts": {"x": {"size": True}}},
        {"parts": {"x": {"size": 3.0}}},
        {"parts": {"x": {"size": 3, "seconds": "2"}}},
        {"parts": {"x": {"size": 3, "name": 1}}},
        {"parts": {"x": 3}},
        {"pairs": [[1]]},
        {"pairs": [{"left": 1, "right": []}]},
        {"pairs": {}},
        {"point": [4, "z", 5]},
        {"point": "4z"},
    ],
    ids=str,
)
def test_another_type_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError)):
        from_json(Whole, {"kind": "a", "parts": {}, **change})


@pytest.mark.parametrize("value", [None, 1, "x", [], [1], {}])
def test_what_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        from_json(Whole, value)
