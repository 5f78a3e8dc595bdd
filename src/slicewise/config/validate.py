"""Check a merged tree against the schema and report all errors at once."""

import re
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from slicewise.config.keys import closest_match, is_known, named_sections, suggest
from slicewise.config.origin import Layer, find_origin
from slicewise.config.schema import Config
from slicewise.core.errors import ConfigError


def validate(tree: dict[str, Any], find_layers: Callable[[], Sequence[Layer]]) -> Config:
    """Return the frozen configuration; `find_layers` is called only to locate errors.

    Raises:
        ConfigError: a line per fault: the key, what is wrong, and the file or override that set it.
    """
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        layers, faults = find_layers(), dict[str, str]()
        for details in error.errors():
            key = ".".join(str(part) for part in details["loc"] if not isinstance(part, int))
            key = key.removesuffix(".[key]")
            section, mapping = key.rpartition(".")[0], key.rpartition(".")[0].rpartition(".")[0]
            if details["type"] == "missing" and mapping in named_sections():
                fault = _explain_incomplete(tree, mapping, section.rpartition(".")[2])
                faults.setdefault(section, fault)
            else:
                faults[key] = _explain(details, key)
        lines = [
            f"  {k or 'configuration'}: {text}  [{find_origin(layers, k)}]" for k, text in faults.items()
        ]
        count = f"{len(lines)} fault{'s' if len(lines) > 1 else ''} in the configuration:"
        raise ConfigError("\n".join([count, *sorted(lines)])) from error


def _explain_incomplete(tree: dict[str, Any], mapping: str, name: str) -> str:
    """Return the fault of a section without all of its keys: its name is mistyped, or it is a new one."""
    others: Any = tree
    for part in mapping.split("."):
        others = others[part]
    known = [other for other in others if other != name]
    match = closest_match(name, known)
    guess = f"did you mean {match}? " if match else ""
    return f"unknown, or not complete; {guess}there are {', '.join(known)}; a new one needs every key"


def _explain(details: ErrorDetails, key: str) -> str:
    match details["type"]:
        case "extra_forbidden":
            if is_known(key):
                return "a source of this kind has no such key; leave it out"
            return "unknown key" + suggest(key)
        case "missing" if isinstance(details["loc"][-1], int):
            return f"value number {details['loc'][-1] + 1} is missing"
        case "missing":
            return "missing; every key needs a value"
        case "value_error":
            return str(details["ctx"]["error"])
        case "literal_error":
            match = closest_match(str(details["input"]), re.findall("'([^']*)'", details["ctx"]["expected"]))
            return f"{_invalid(details)}{f'; did you mean {match}?' if match else ''}"
        case _:
            return _invalid(details)


def _invalid(details: ErrorDetails) -> str:
    return f"{details['input']!r} is invalid: {details['msg'][:1].lower()}{details['msg'][1:]}"
