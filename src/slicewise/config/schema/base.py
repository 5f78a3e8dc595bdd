"""The base class of all configuration sections, and bounded numbers."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
LARGEST: Final = (1 << 31) - 1
"""Accepted by every library, and larger than any real count."""
Count = Annotated[int, Field(ge=1, le=LARGEST)]
CountOrZero = Annotated[int, Field(ge=0, le=LARGEST)]
Seed = Annotated[int, Field(ge=0, le=(1 << 32) - 1)]
Port = Annotated[int, Field(ge=1024, le=65535)]
Name = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=60)]
"""Becomes a part of the names of steps, folders and files"""


def _check_channel(name: str) -> str:
    if re.fullmatch(r"[a-z][a-z0-9_]*", name):
        return name
    meant = re.sub(r"[^a-z0-9_]+", "_", name.lower()).lstrip("0123456789_")
    raise ValueError(
        "small letters, digits and _ name a channel" + (f"; did you mean {meant}?" if meant else "")
    )


ChannelName = Annotated[str, AfterValidator(_check_channel)]


def _drop_removed(entries: Any) -> Any:
    if not isinstance(entries, Mapping):
        return entries
    return {name: entry for name, entry in entries.items() if entry is not None}


WithoutRemoved: Final = BeforeValidator(_drop_removed)
"""For a mapping of sections: an entry set to null is removed, so that a recipe or the command line can."""


class Section(BaseModel):
    """A frozen section that refuses unknown keys, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
