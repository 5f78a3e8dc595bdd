"""The words of reports and figures: patients with tumours, or pictures with objects.

They are written in the words of the tumour recipe. A recipe of pictures of any kind replaces them where text
is laid out, so that neither a report nor a figure has two versions. Names, paths and keys stay as they are.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from slicewise.domain.labels import COLOURS, GREY

_OF_PICTURES: Final = {
    r"patients and pictures": "pictures",
    r"to read real MRI well": "to do well on others",
    r"Not a medical device: nothing in this report supports a decision about a person\.": "",
    r"patients, or families of (near-identical )?pictures": r"families of \1pictures",
    r"patients or families": "families",
    r"patients/families": "families",
    r"(a|each|every) patient": r"\1 picture",
    r"(p|P)atient": r"\1icture",
    r"(p|P)atients": r"\1ictures",
    r"a tumour": "an object",
    r"(with|without) tumour": r"\1 objects",
    r"tumour": "object",
    r"tumours": "objects",
    r"voxels": "pixels",
}
_PATTERN: Final = r"(?<![\w/.\-=]){}(?![\w/=]|[.\-]\w)"
"""A word, but none of a name such as `num_patients`, `patient-1` or `patient.png`"""
_RULES: Final = [(re.compile(_PATTERN.format(old)), new) for old, new in _OF_PICTURES.items()]
_pictures: ContextVar[bool] = ContextVar("pictures", default=False)


@contextmanager
def wording(channels: Sequence[str], classes: Sequence[str]) -> Iterator[None]:
    """Use the words of a recipe while the block runs.

    They are those of pictures where its channels are colours or grey, unless a class of pixels is a tumour.
    """
    of_pictures = bool({GREY, *COLOURS} & {*channels}) and not any("tumo" in name for name in classes)
    token = _pictures.set(of_pictures)
    try:
        yield
    finally:
        _pictures.reset(token)


def is_of_pictures() -> bool:
    """Whether the words are those of pictures."""
    return _pictures.get()


def reword(text: str) -> str:
    """Return text in the words of the recipe."""
    if _pictures.get():
        for pattern, words in _RULES:
            text = pattern.sub(words, text)
    return text
