"""Check a merged tree against the schema and say everything that is wrong with it at once."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from slicewise.config.keys import closest_match, suggest
from slicewise.config.origin import Layer, find_origin
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
        sources = layers()
        faults = [_fault(details, sources) for details in error.errors()]
        count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''} in the configuration:"
        raise ConfigError("\n".join([count, *sorted(faults)])) from error


def _fault(details: ErrorDetails, layers: Sequence[Layer]) -> str:
    key = ".".join(str(part) for part in details["loc"] if not isinstance(part, int))
    where = find_origin(layers, key)
    return f"  {key or 'configuration'}: {_explain(details, key)}  [{where}]"


def _explain(details: ErrorDetails, key: str) -> str:
    match details["type"]:
        case "extra_forbidden":
            return "unknown key" + suggest(key)
        case "missing" if isinstance(details["loc"][-1], int):
            return f"value number {details['loc'][-1] + 1} is missing"
        case "missing":
            return "missing; every key needs a value"
        case "value_error":
            return str(details["ctx"]["error"])
        case "literal_error":
            near = closest_match(str(details["input"]), re.findall("'([^']*)'", details["ctx"]["expected"]))
            return f"{_invalid(details)}{f'; did you mean {near}?' if near else ''}"
        case _:
            return _invalid(details)


def _invalid(details: ErrorDetails) -> str:
    return f"{details['input']!r} is impossible: {_lower(details['msg'])}"


def _lower(message: str) -> str:
    return message[:1].lower() + message[1:]
