"""The keys that the schema knows: which of them hold text, and which one a person may have meant."""

import difflib
import re
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import BaseModel

from slicewise.config.schema import Config

_STAGES: Final = re.compile(r"^stages\.\w+\.")
_MOST: Final = 4
"""Keys that a message lists."""


@cache
def known_keys() -> dict[str, Any]:
    """Return {dotted key: its type} of every section and value, in the order of the schema."""
    return dict(_walk(Config, ""))


def _walk(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}", field.annotation
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _walk(kind, f"{prefix}{name}.")


@cache
def holds_text(key: str) -> bool:
    """Whether the value of a key is free text or a path, so that it needs no syntax of its own."""
    return key in known_keys() and bool({str, Path} & {*_kinds(known_keys()[key])})


def _kinds(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    parts = () if get_origin(annotation) in (tuple, list, dict) else get_args(annotation)
    yield annotation
    for part in parts:
        yield from _kinds(part)


def holds_path(key: str) -> bool:
    """Whether the value of a key names a file or folder, or holds such a name."""
    return holds_text(key) and (
        key.rpartition(".")[2] in ("path", "uri") or Path in _kinds(known_keys()[key])
    )


def meant(key: str) -> str:
    """Return `; did you mean a or b?` for an unknown key, or nothing."""
    keys = likely(key)
    return f"; did you mean {listed(keys)}?" if keys else ""


def listed(keys: Collection[str], value: str = "") -> str:
    """Return keys as a message names them, each followed by `value`."""
    shown = " or ".join(f"{key}{value}" for key in [*keys][:_MOST])
    more = " or another of its kind" if len(keys) > _MOST else ""
    stages = " (STAGE: seg_warmup, cls_head or joint)" if "STAGE" in shown else ""
    return f"{shown}{more}{stages}"


def values_below(key: str) -> list[str]:
    """Return the keys of the values in a section; for the key of a value, itself."""
    prefix = f"{key.replace('STAGE', 'joint')}."
    return _shown([known for known in known_keys() if known.startswith(prefix)]) or [key]


def likely(key: str) -> list[str]:
    """Return the keys that an unknown one may stand for: those that end so, else those of a similar name.

    The keys of the three stages are given as one, `stages.STAGE.epochs`.
    """
    same = [known for known in known_keys() if known == key or known.endswith(f".{key}")]
    return _shown(same or _similar(key))


def _similar(key: str) -> list[str]:
    parent, _, name = key.rpartition(".")
    siblings = {
        known.rpartition(".")[2]: known for known in known_keys() if known.rpartition(".")[0] == parent
    }
    if found := closest(name, siblings):
        return [siblings[found]]
    if parent in known_keys():
        return [known for known in known_keys() if known.endswith(f".{name}")]
    if parent:
        found = closest(key, known_keys())
        return [found] if found else []
    found = closest(name, {known.rpartition(".")[2] for known in known_keys()})
    return [known for known in known_keys() if known.rpartition(".")[2] == found]


def _shown(keys: Collection[str]) -> list[str]:
    return list(dict.fromkeys(_STAGES.sub("stages.STAGE.", key) for key in keys))


def closest(word: str, known: Collection[str]) -> str | None:
    """Return the known word that a mistyped one resembles most, capitals aside."""
    by_lower = {name.lower(): name for name in known}
    return next((by_lower[name] for name in difflib.get_close_matches(word.lower(), by_lower, n=1)), None)
