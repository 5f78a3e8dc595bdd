"""Why a step runs again, in the words of the person who changed something."""

from collections.abc import Iterator, Mapping
from typing import Any

from slicewise.pipeline.receipt import Identity

_MAX_NAMED = 3


def differences(made: Identity, wanted: Identity) -> list[str]:
    """Say what differs between the identity of an output and the one that is wanted now."""
    if made.step != wanted.step:
        return [f"its home holds an output of {made.step}"]
    return [
        *_version(made, wanted),
        *_settings(made.settings, wanted.settings),
        *_inputs(made.inputs, wanted.inputs),
        *_needs(made.needs, wanted.needs),
    ]


def contradictions(made: Identity, wanted: Identity) -> list[str]:
    """Say which settings an output has other values of; a setting that one of the two lacks is none."""
    common = made.settings.keys() & wanted.settings.keys()
    ours, theirs = (
        {key: value for key, value in settings.items() if key in common}
        for settings in (wanted.settings, made.settings)
    )
    return list(_settings(theirs, ours))


def shorten(reasons: list[str]) -> str:
    """Join reasons to one line, the first few in full."""
    named = reasons[:_MAX_NAMED]
    rest = len(reasons) - len(named)
    return "; ".join(named) + (f"; and {rest} more" if rest else "")


def _version(made: Identity, wanted: Identity) -> Iterator[str]:
    if made.version != wanted.version:
        yield f"step version {made.version} -> {wanted.version}"


def _settings(made: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    for key in [*wanted, *(key for key in made if key not in wanted)]:
        old, new = made.get(key, "(none)"), wanted.get(key, "(none)")
        if old != new:
            yield f"{key}: {_show(old)} -> {_show(new)}"


def _inputs(made: Mapping[str, Mapping[str, str]], wanted: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for name in [*wanted, *(name for name in made if name not in wanted)]:
        yield from _files(name, made.get(name, {}), wanted.get(name, {}))


def _files(name: str, made: Mapping[str, str], wanted: Mapping[str, str]) -> Iterator[str]:
    changed = sorted(path for path in wanted if path in made and made[path] != wanted[path])
    added = sorted(set(wanted) - set(made))
    removed = sorted(set(made) - set(wanted))
    for verb, paths in (("changed", changed), ("new", added), ("gone", removed)):
        if paths:
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            yield f"{name}: {paths[0]}{more} {verb}"


def _needs(made: Mapping[str, str], wanted: Mapping[str, str]) -> Iterator[str]:
    changed = [name for name, fingerprint in wanted.items() if made.get(name) != fingerprint]
    if changed:
        yield f"{' and '.join(changed)} changed"


def _show(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
