"""The keys of the schema: their types, and suggestions for mistyped ones."""

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import BaseModel

from slicewise.config.schema import Config
from slicewise.config.schema.sources import KINDS

_STAGES: Final = re.compile(r"^stages\.\w+\.")
_SOURCE: Final = re.compile(r"^data\.sources\.(?!SOURCE\b)(?P<key>\w+)(?=\.|$)")
_MAX_LISTED: Final = 4
"""Most keys that a message lists."""


@cache
def known_keys() -> dict[str, Any]:
    """Return {dotted key: its type} of every section and value, in the order of the schema.

    SOURCE stands for the key of a data source, which has the keys of all kinds.
    """
    keys = dict(_iterate_keys(Config, ""))
    for kind in KINDS.values():
        keys |= dict(_iterate_keys(kind, "data.sources.SOURCE."))
    return keys


def _iterate_keys(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}", field.annotation
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _iterate_keys(kind, f"{prefix}{name}.")


def is_known(key: str) -> bool:
    """Whether a section or value has this key."""
    return _SOURCE.sub("data.sources.SOURCE", key) in known_keys()


@cache
def is_text_key(key: str) -> bool:
    """Whether the value of a key is free text or a path, which Hydra must not parse."""
    key = _SOURCE.sub("data.sources.SOURCE", key)
    types = {*_iterate_types(known_keys().get(key))}
    return bool({str, Path} & types) and not any(get_origin(each) is dict for each in types)


def _iterate_types(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    parts = () if get_origin(annotation) in (tuple, list, dict) else get_args(annotation)
    yield annotation
    for part in parts:
        yield from _iterate_types(part)


def is_path_key(key: str) -> bool:
    """Whether the value of a key is or contains a path."""
    return is_text_key(key) and (
        key.rpartition(".")[2] in ("path", "uri") or Path in _iterate_types(known_keys().get(key))
    )


def suggest(key: str) -> str:
    """Return `; did you mean a or b?` for an unknown key, or an empty string."""
    keys = similar_keys(key)
    return f"; did you mean {format_keys(keys)}?" if keys else ""


def format_keys(keys: Collection[str], value: str = "") -> str:
    """Return keys as text for a message, each followed by `value`."""
    shown = " or ".join(f"{key}{value}" for key in [*keys][:_MAX_LISTED])
    more = " or a similar key" if len(keys) > _MAX_LISTED else ""
    stages = " (STAGE: seg_warmup, cls_head or joint)" if "STAGE" in shown else ""
    sources = " (SOURCE: volumes, pictures or another one)" if "SOURCE" in shown else ""
    return f"{shown}{more}{stages}{sources}"


def leaf_keys(key: str) -> list[str]:
    """Return the keys of the values in a section; for the key of a value, itself."""
    prefix = f"{key.replace('STAGE', 'joint')}."
    return _merge_stages([known for known in known_keys() if known.startswith(prefix)]) or [key]


def similar_keys(key: str) -> list[str]:
    """Return the keys that an unknown one may mean: those that end with it, else those of a similar name.

    The keys of the three stages are merged into one: `stages.STAGE.epochs`. Those of a data source are those
    of the source that `key` names.
    """
    source = _SOURCE.match(key)
    key = _SOURCE.sub("data.sources.SOURCE", key)
    exact = [known for known in known_keys() if known == key or known.endswith(f".{key}")]
    similar = _merge_stages(exact or _similar(key))
    return [known.replace("SOURCE", source["key"]) for known in similar] if source else similar


def _similar(key: str) -> list[str]:
    parent, _, name = key.rpartition(".")
    siblings = {
        known.rpartition(".")[2]: known for known in known_keys() if known.rpartition(".")[0] == parent
    }
    if match := closest_match(name, siblings):
        return [siblings[match]]
    if parent in known_keys():
        return [known for known in known_keys() if known.endswith(f".{name}")]
    if parent:
        match = closest_match(key, known_keys())
        return [match] if match else []
    match = closest_match(name, {known.rpartition(".")[2] for known in known_keys()})
    return [known for known in known_keys() if known.rpartition(".")[2] == match]


def _merge_stages(keys: Collection[str]) -> list[str]:
    return list(dict.fromkeys(_STAGES.sub("stages.STAGE.", key) for key in keys))


def closest_match(word: str, known: Collection[str]) -> str | None:
    """Return the known word most similar to a mistyped one, ignoring case."""
    by_lower = {name.lower(): name for name in known}
    return next((by_lower[name] for name in difflib.get_close_matches(word.lower(), by_lower, n=1)), None)


def flatten_dict(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested sections as {"a.b": value}."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten_dict(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
