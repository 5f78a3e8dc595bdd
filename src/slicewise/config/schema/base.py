"""The base of every configuration section and the bounded numbers they share."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
LARGEST: Final = (1 << 31) - 1
"""No count comes near it, and every library takes it; receipts hold no number beyond 64 bits."""
Count = Annotated[int, Field(ge=1, le=LARGEST)]
CountOrZero = Annotated[int, Field(ge=0, le=LARGEST)]
Seed = Annotated[int, Field(ge=0, le=(1 << 32) - 1)]
Port = Annotated[int, Field(ge=1024, le=65535)]


class Section(BaseModel):
    """A frozen part of the configuration that refuses unknown keys, and numbers that JSON cannot hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=())
