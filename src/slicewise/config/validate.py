"""Check a merged tree against the schema and say everything that is wrong with it at once."""

import difflib
from collections.abc import Callable, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from slicewise.config.provenance import Layer, origin
from slicewise.config.schema import Config
from slicewise.core.errors import ConfigError


def validate(tree: dict[str, Any], layers: Callable[[], Sequence[Layer]]) -> Config:
    """Return the frozen configuration. `layers` is asked only when there is a fault to locate.

    Raises:
        ConfigError: one line per fault: the key, what is wrong, the file or override that set it.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        found = layers()
        faults = [_fault(details, found) for details in error.errors()]
        count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''} in the configuration:"
        raise ConfigError("\n".join([count, *sorted(faults)])) from error


def _fault(details: ErrorDetails, layers: Sequence[Layer]) -> str:
    key = ".".join(str(part) for part in details["loc"] if not isinstance(part, int))
    where = origin(layers, key)
    return f"  {key or 'configuration'}: {_explain(details, key)}  [{where}]"


def _explain(details: ErrorDetails, key: str) -> str:
    match details["type"]:
        case "extra_forbidden":
            return "unknown key" + _suggestion(key)
        case "missing" if isinstance(details["loc"][-1], int):
            return f"value number {details['loc'][-1] + 1} is missing"
        case "missing":
            return "missing; every key needs a value"
        case "value_error":
            return str(details["ctx"]["error"])
        case _:
            return f"{details['input']!r} is impossible: {_lower(details['msg'])}"


def _suggestion(key: str) -> str:
    parent, _, name = key.rpartition(".")
    close = difflib.get_close_matches(name, _known(parent), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _known(parent: str) -> list[str]:
    section: type[BaseModel] = Config
    for part in filter(None, parent.split(".")):
        field = section.model_fields.get(part)
        kinds = [field.annotation, *get_args(field.annotation)] if field else []
        nested = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if not nested:
            return []
        section = nested[0]
    return list(section.model_fields)


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
