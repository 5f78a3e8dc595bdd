"""Names and numbers as the page words them."""

from collections.abc import Sequence
from typing import Any, Final

from slicewise.domain.labels import MODALITIES

_SEQUENCES: Final = {"t1ce": "T1 with contrast"}


def sequence(channel: str) -> str:
    """Return the name of a channel: that of an MRI sequence, or of a colour."""
    plain = channel.upper() if channel in MODALITIES else channel.capitalize()
    return _SEQUENCES.get(channel, plain)


def class_label(name: str) -> str:
    """Return the name of a class or verdict as a text: `no_tumour` is `No tumour`."""
    text = name.replace("_", " ")
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """Return text with a capital at its start, unless it starts with the name of a file."""
    first = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if first.isalpha() else text


def percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.0%}" if 0.1 <= share <= 0.9 else f"{share:.1%}"


def millilitres(volume: float | None) -> str:
    return "–" if volume is None else f"{volume:.1f} ml"


def slice_number(index: int | None) -> str:
    """Return the number of a slice as a radiologist counts, from 1."""
    return "–" if index is None else str(index + 1)


def enumeration(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} and {words[-1]}" if len(words) > 1 else "".join(words)


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def verdict(finding: dict[str, Any]) -> str | None:
    """Return what the model calls the case, in words; None without classification."""
    name = finding["verdict"]
    return None if name is None else class_label(name)
