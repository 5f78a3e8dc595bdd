"""Pick the narrow part of the configuration that decides an output."""

from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from slicewise.config.provenance import dotted
from slicewise.config.schema import Config


def pick(config: Config, *keys: str, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return {dotted key: value} for the sections and leaves named, sections spelled out leaf by leaf.

    The values are those that JSON gives back, so that a receipt that was read equals what is wanted now.
    """
    picked: dict[str, Any] = {}
    for key in keys:
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        plain = to_jsonable_python(value)
        leaves = dotted(plain, f"{key}.") if isinstance(value, BaseModel) else {key: plain}
        picked.update({name: leaf for name, leaf in leaves.items() if name not in without})
    return picked
