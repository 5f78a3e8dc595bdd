"""The keys of the schema: their types, and suggestions for mistyped ones."""

import difflib
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, get_args, get_origin

from pydantic import BaseModel

from slicewise.config.schema import Config
from slicewise.config.schema.sources import KINDS

_MAX_LISTED: Final = 4
"""Most keys that a message lists."""


@cache
def known_keys() -> dict[str, Any]:
    """Return {dotted key: its type} of every section and value, in the order of the schema.

    STAGE stands for the name of a stage, and SOURCE for the key of a data source, which has the keys of all
    kinds.
    """
    keys = dict(_iterate_keys(Config, ""))
    for kind in KINDS.values():
        keys |= dict(_iterate_keys(kind, "data.sources.SOURCE."))
    return keys


def _iterate_keys(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}", field.annotation
        below = f"{prefix}{name}."
        types = dict.fromkeys(_iterate_types(field.annotation, inside=True))
        sections = [kind for kind in types if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if sections and get_origin(field.annotation) in (dict, Mapping):
            below += name.removesuffix("s").upper()
            yield below, field.annotation
            below += "."
        for kind in sections:
            yield from _iterate_keys(kind, below)


@cache
def named_sections() -> dict[str, str]:
    """Return {key of a mapping of sections: the placeholder of their names}."""
    parts = (key.rpartition(".") for key in known_keys())
    return {mapping: placeholder for mapping, _, placeholder in parts if placeholder.isupper()}


def with_placeholders(key: str) -> str:
    """Return a key with the placeholders of the schema: `stages.joint.epochs` is `stages.STAGE.epochs`."""
    for mapping, placeholder in named_sections().items():
        if key.startswith(f"{mapping}."):
            _, dot, rest = key.removeprefix(f"{mapping}.").partition(".")
            key = f"{mapping}.{placeholder}{dot}{rest}"
    return key


def is_known(key: str) -> bool:
    """Whether a section or value has this key."""
    return with_placeholders(key) in known_keys()


@cache
def is_text_key(key: str) -> bool:
    """Whether the value of a key is free text or a path, which Hydra must not parse."""
    types = {*_iterate_types(known_keys().get(with_placeholders(key)))}
    return bool({str, Path} & types) and not any(get_origin(each) is dict for each in types)


def _iterate_types(annotation: Any, *, inside: bool = False) -> Iterator[Any]:
    """Yield a type and those of its alternatives; `inside`: of its elements too."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    yield annotation
    if inside or get_origin(annotation) not in (tuple, list, dict, Mapping):
        for part in get_args(annotation):
            yield from _iterate_types(part, inside=inside)


def is_path_key(key: str) -> bool:
    """Whether the value of a key is or contains a path."""
    return is_text_key(key) and (
        key.rpartition(".")[2] in ("path", "uri")
        or Path in _iterate_types(known_keys().get(with_placeholders(key)))
    )


def suggest(key: str) -> str:
    """Return `; did you mean a or b?` for an unknown key, or an empty string."""
    keys = similar_keys(key)
    return f"; did you mean {format_keys(keys)}?" if keys else ""


def format_keys(keys: Collection[str], value: str = "") -> str:
    """Return keys as text for a message, each followed by `value`."""
    shown = " or ".join(f"{key}{value}" for key in [*keys][:_MAX_LISTED])
    more = " or a similar key" if len(keys) > _MAX_LISTED else ""
    stages = " (STAGE: the name of a stage)" if "STAGE" in shown else ""
    sources = " (SOURCE: volumes, pictures or another one)" if "SOURCE" in shown else ""
    return f"{shown}{more}{stages}{sources}"


def leaf_keys(key: str) -> list[str]:
    """Return the keys of the values in a section; for the key of a value, itself."""
    return [known for known in known_keys() if known.startswith(f"{key}.")] or [key]


def similar_keys(key: str) -> list[str]:
    """Return the keys that an unknown one may mean: those that end with it, else those of a similar name.

    Those of a stage or data source are those of the one that `key` names.
    """
    general = with_placeholders(key)
    exact = [known for known in known_keys() if known == general or known.endswith(f".{general}")]
    similar = exact or _similar(general)
    for mapping, placeholder in named_sections().items():
        if key.startswith(f"{mapping}."):
            name = key.removeprefix(f"{mapping}.").partition(".")[0]
            similar = [known.replace(f"{mapping}.{placeholder}", f"{mapping}.{name}") for known in similar]
    return similar


def _similar(key: str) -> list[str]:
    parent, _, name = key.rpartition(".")
    if not parent:
        names = {known: known.rpartition(".")[2] for known in known_keys()}
        top = closest_match(name, [known for known in names if "." not in known])
        match = closest_match(name, names.values())
        close = [top] if top else [known for known in names if names[known] == match]
        return close + [known for known in names if known not in close and name in names[known].split("_")]
    siblings = {
        known.rpartition(".")[2]: known for known in known_keys() if known.rpartition(".")[0] == parent
    }
    if match := closest_match(name, siblings):
        return [siblings[match]]
    if parent in known_keys():
        return [known for known in known_keys() if known.endswith(f".{name}")]
    match = closest_match(key, known_keys())
    return [match] if match else []


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
