"""The base class of all configuration sections, and bounded numbers."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
LARGEST: Final = (1 << 31) - 1
"""Accepted by every library, and larger than any real count."""
Count = Annotated[int, Field(ge=1, le=LARGEST)]
CountOrZero = Annotated[int, Field(ge=0, le=LARGEST)]
Seed = Annotated[int, Field(ge=0, le=(1 << 32) - 1)]
Name = Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=60)]
"""Becomes a part of the names of steps, folders and files"""


class Section(BaseModel):
    """A frozen section that refuses unknown keys, NaN and infinity."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=(), defer_build=True
    )  # deferred: verbs that read no configuration start sooner, and the others build the validators once
