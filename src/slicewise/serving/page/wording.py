"""Names and numbers as the page words them."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from slicewise.domain.labels import CLASSIFICATION, MODALITIES, SEGMENTATION
from slicewise.domain.wording import reword

_KEY_WITH_VALUE: Final = re.compile(r"\b(?:evaluation|serving|runtime)\.\w+ \(([^()]+)\)")
_KEY_IN_BRACKETS: Final = re.compile(r" \((?:evaluation|serving|runtime)\.\w+\)")
_MARKDOWN: Final = re.compile(r"([\\`*_\[\]<~$#]|:(?=\w))")
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
    """Return text of the API as a sentence: a capital at its start, unless that is a file's name; no keys."""
    text = _KEY_IN_BRACKETS.sub("", _KEY_WITH_VALUE.sub(r"\1", text))
    first = text.partition(" ")[0]
    return text[:1].upper() + text[1:] if first.isalpha() else text


def plain(text: str) -> str:
    """Return a text that Streamlit shows as it is: names of files may look like Markdown."""
    return _MARKDOWN.sub(r"\\\1", text)


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


def operating_point(point: Mapping[str, Any], tasks: Sequence[str]) -> str:
    """Return the thresholds of the tasks in words, as in `a tumour from 50%, mask from 40%, calibrated`."""
    parts = []
    if CLASSIFICATION in tasks:
        threshold = point["class_threshold"]
        verdict = "the most probable class" if threshold is None else f"a tumour from {percent(threshold)}"
        parts += [verdict, "calibrated" if point["calibrated"] else "not calibrated"]
    if SEGMENTATION in tasks:
        shares = [point["mask_threshold"], *point["class_mask_thresholds"].values()]
        own = enumeration([percent(share) for share in dict.fromkeys(shares)])
        parts.append(f"mask from {own}")
    return reword(", ".join(parts))
