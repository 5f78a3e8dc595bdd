"""The base class of all configuration sections, and bounded numbers."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_jsonable_python

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


def plain(value: Any) -> Any:
    """Return a section, or a value of one, as JSON has it.

    It is what `model_dump(mode="json")` returns, without its serializers: they take 0.1 s to be built.
    """
    if isinstance(value, BaseModel):
        return {name: plain(each) for name, each in value}
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [plain(each) for each in value]
    return value if type(value) in _JSON_TYPES else to_jsonable_python(value)


_JSON_TYPES: Final = (str, int, float, bool, type(None))
