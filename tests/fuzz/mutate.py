"""Malformed variants of a valid input, drawn by hypothesis."""

import json
import struct
from typing import Any

from hypothesis import strategies as st

INTERESTING = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    (1 << 63) - 1,
)
NUMBERS = tuple(
    struct.pack(f"{order}{kind}", value % (1 << (8 * struct.calcsize(kind))))
    for order in "<>"
    for kind in "BHIQ"
    for value in INTERESTING
) + tuple(
    struct.pack(f"{order}{kind}", value)
    for order in "<>"
    for kind in "fd"
    for value in (float("nan"), float("inf"), -1.0, 1e30)
)
STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 1e308, 1 << 62, 10**30, float("nan"), float("inf")),
    *("", ".", "..", "../../canary", "/etc/passwd", "a\x00b", "x" * 300, "\ud800"),
    *([], {}, [[]], {"": None}, [None]),
)


@st.composite
def damaged(draw: st.DrawFn, sound: list[bytes]) -> bytes:
    """Return a valid input after some cuts, repeats and overwritten bytes."""
    data = bytearray(draw(st.sampled_from(sound)))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(("number", "number", "flip", "cut", "drop", "repeat", "insert"))):
            case "number":
                number = draw(st.sampled_from(NUMBERS))
                data[place : place + len(number)] = number
            case "flip":
                data[place : place + 1] = bytes([draw(st.integers(0, 255))])
            case "cut":
                del data[place:]
            case "drop":
                del data[place : place + draw(st.integers(1, 32))]
            case "repeat":
                data[place:place] = data[place : place + draw(st.integers(1, 64))]
            case "insert":
                data[place:place] = draw(st.binary(max_size=16))
    return bytes(data)


@st.composite
def forged(draw: st.DrawFn, sound: list[bytes]) -> bytes:
    """Return a valid JSON record in which some values or names were replaced."""
    value = json.loads(draw(st.sampled_from(sound)))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(value))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        strange = draw(st.sampled_from(STRANGE))
        if isinstance(holder, dict) and isinstance(strange, str) and draw(st.booleans()):
            holder[strange] = holder.pop(key)
        elif draw(st.integers(0, 9)):
            holder[key] = json.loads(json.dumps(strange))
        else:
            del holder[key]
    return json.dumps(value).encode()


def _places(value: Any) -> list[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *_places(value[key]))]
