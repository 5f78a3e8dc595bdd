"""What the words of a file name say about the modality of a volume."""

import re
from collections.abc import Mapping
from typing import Final

from slicewise.core.labels import Modality
from slicewise.data.sources.brats import SPELLINGS

_WORDS: Final[Mapping[str, Modality]] = {**SPELLINGS, "t1post": "t1ce"}
_TWO_WORDS: Final = (
    (re.compile(r"\bt1 (?:ce|c|gd|gad|contrast|post)\b"), "t1ce"),
    (re.compile(r"\bt2 flair\b"), "flair"),
)
_UNSURE: Final = {"ce", "gd", "gad", "contrast", "pre", "post", "op"}
"""Beside T1 they may speak of a contrast agent, of its absence or of an operation: nothing is guessed."""
_ENDING: Final = re.compile(r"\.nii(\.gz)?$", re.IGNORECASE)


def guess_modality(file_name: str) -> Modality | None:
    """Return the modality that the whole words of a file name speak of, if it is one."""
    words = _words(file_name)
    found = {_WORDS[word] for word in words if word in _WORDS}
    unsure = found & {"t1", "t1ce"} and _UNSURE & {*words}
    return found.pop() if len(found) == 1 and not unsure else None


def names_modality_alone(file_name: str) -> bool:
    """Whether a name such as `t1ce.nii.gz` says nothing else; then its folder is the patient."""
    words = _words(_ENDING.sub("", file_name))
    return len(words) == 1 and words[0] in _WORDS


def _words(file_name: str) -> list[str]:
    words = " ".join(re.split(r"[^a-z0-9]+", file_name.lower()))
    for two, one in _TWO_WORDS:
        words = two.sub(one, words)
    return words.split()
