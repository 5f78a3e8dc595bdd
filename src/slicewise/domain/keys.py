"""Keys that join slices, cases and patients in every table; no later code parses a path."""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import Final

MAX_NAME: Final = 100
"""Characters of a safe name. File systems end at 255, and names are joined."""
_DIGITS: Final = 8
_ALLOWED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True, order=True, slots=True)
class CaseKey:
    """One examination of one patient. A patient may have several cases (repeat visits).

    Raises:
        ValueError: a part is empty or holds a character that does not belong in a file name.
    """

    source: str
    patient: str
    case: str

    def __post_init__(self) -> None:
        for part in (self.source, self.patient, self.case):
            if not _ALLOWED.fullmatch(part):
                raise ValueError(f"{part!r} cannot name a source, patient or case")

    def __str__(self) -> str:
        return f"{self.source}/{self.patient}/{self.case}"


@dataclass(frozen=True, order=True, slots=True)
class SliceKey:
    """One axial slice (or the only picture) of a case; `index` counts from 0 in the volume as read."""

    source: str
    patient: str
    case: str
    index: int

    @property
    def case_key(self) -> CaseKey:
        return CaseKey(self.source, self.patient, self.case)

    def __str__(self) -> str:
        return f"{self.source}/{self.patient}/{self.case}/{self.index:03d}"


def safe_name(text: str) -> str:
    """Return a file or folder name as one that `CaseKey` accepts, unchanged where it already is.

    Where letters outside ASCII are lost, or the name exceeds `MAX_NAME`, it ends in a digest, so that
    distinct names stay distinct. The digest ignores case and Unicode normalisation.
    """
    text = unicodedata.normalize("NFC", text)
    name = re.sub(r"[^A-Za-z0-9._+-]+", "-", text).strip("-").lstrip("._+-") or "unnamed"
    if text.isascii() and len(name) <= MAX_NAME:
        return name
    digest = hashlib.sha256(text.lower().encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
    return f"{name[: MAX_NAME - _DIGITS - 1]}-{digest}"
