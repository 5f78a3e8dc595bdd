"""The words of reports and figures: patients with tumours, or pictures with objects.

They are written in the words of the tumour recipe. Where every case is a picture, and where what is marked is
no tumour, others replace them when text is laid out, so that neither a report nor a figure has two versions.
Names, paths and keys stay as they are.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from slicewise.domain.labels import COLOURS, GREY

Rules = Sequence[tuple[re.Pattern[str], str]]

_WORD: Final = r"(?<![\w/.\-=]){}(?![\w/=]|[.\-]\w)"
"""A word, but none of a name such as `num_patients`, `patient-1` or `patient.png`"""


def _rules(words: Mapping[str, str]) -> Rules:
    return [(re.compile(_WORD.format(old)), new) for old, new in words.items()]


_PICTURES: Final = _rules(
    {
        r"patients and pictures": "pictures",
        r"patients, or families of (near-identical )?pictures": r"families of \1pictures",
        r"patients or families": "families",
        r"patients/families": "families",
        r"Slices of one patient resemble each other: few": "Few",
        r"Slices of one patient are correlated: with": "With",
        r"slices and patients": "slices",
        r"(p|P)atient": r"\1icture",
        r"(p|P)atients": r"\1ictures",
        r"voxels": "pixels",
        r"volume error": "area error",
    }
)
_WHOLE: Final = [
    (re.compile(r"^slice \d+ +|, all slices pooled|,? +slice \d+\b"), ""),
    *_rules({"slice": "picture", "slices": "pictures", "Slice": "Picture", "Slices": "Pictures"}),
]
"""Of pictures that are not cut: each is its only slice."""
_TILES: Final = [
    (re.compile("all slices pooled"), "all tiles together"),
    *_rules({"slice": "tile", "slices": "tiles", "Slice": "Tile", "Slices": "Tiles"}),
]
_OBJECTS: Final = _rules(
    {
        r"to read real MRI well": "to do well on others",
        r"Not a medical device: nothing in this report supports a decision about a person\.": "",
        r"Research use only\. Not a medical device; not for diagnosis\.": "Research use only.",
        r"(f|F)or research; not a medical device\.": r"\1or research.",
        r"a tumour": "an object",
        r"(with|without) tumour": r"\1 objects",
        r"tumour": "object",
        r"tumours": "objects",
    }
)


@dataclass(frozen=True)
class _Words:
    pictures: bool = False
    objects: bool = False
    rules: Rules = ()


_TUMOUR: Final = _Words()
_words: ContextVar[_Words] = ContextVar("words", default=_TUMOUR)


@contextmanager
def wording(
    channels: Sequence[str], classes: Sequence[str], *, pictures: bool = False, tiles: bool = False
) -> Iterator[None]:
    """Use the words of a recipe while the block runs.

    Args:
        channels: of the input; what is marked is a tumour unless they are colours or grey.
        classes: of pixels; or it is one of them.
        pictures: whether every case is a picture; so it is where objects are marked.
        tiles: whether pictures are cut into tiles.
    """
    objects = bool({GREY, *COLOURS} & {*channels}) and not any("tumo" in name for name in classes)
    pictures = pictures or objects
    of_pictures = [*_PICTURES, *(_TILES if tiles else _WHOLE)] if pictures else []
    token = _words.set(_Words(pictures, objects, [*of_pictures, *(_OBJECTS if objects else ())]))
    try:
        yield
    finally:
        _words.reset(token)


def is_of_pictures() -> bool:
    """Whether the words are those of pictures."""
    return _words.get().pictures


def is_of_objects() -> bool:
    """Whether what is marked is no tumour: nothing is said of patients, scanners and medicine."""
    return _words.get().objects


def reword(text: str) -> str:
    """Return text in the words of the recipe."""
    for pattern, words in _words.get().rules:
        text = pattern.sub(words, text)
    return text
