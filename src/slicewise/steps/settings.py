"""Pick the narrow part of the configuration that decides an output."""

from typing import Any

from pydantic import BaseModel

from slicewise.config.provenance import dotted
from slicewise.config.schema import Config


def pick(config: Config, *keys: str, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return {dotted key: value} for the sections and leaves named, sections spelled out leaf by leaf."""
    picked: dict[str, Any] = {}
    for key in keys:
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        leaves = (
            dotted(value.model_dump(mode="json"), f"{key}.") if isinstance(value, BaseModel) else {key: value}
        )
        picked.update({name: leaf for name, leaf in leaves.items() if name not in without})
    return picked
