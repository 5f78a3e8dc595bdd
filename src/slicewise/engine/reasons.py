"""Why a step runs again, in the words of the person who changed something."""

from collections.abc import Iterator, Mapping
from typing import Any

from slicewise.engine.receipt import Identity

_MAX_LISTED = 3


def describe_changes(stored: Identity, current: Identity) -> list[str]:
    """Say what differs between the identity of an output and the one that is wanted now."""
    if stored.step != current.step:
        return [f"its home holds an output of {stored.step}"]
    return [
        *_version_change(stored, current),
        *_setting_changes(stored.settings, current.settings),
        *_input_changes(stored.inputs, current.inputs),
        *_need_changes(stored.needs, current.needs),
    ]


def conflicting_settings(stored: Identity, current: Identity) -> list[str]:
    """Say which settings an output has other values of; a setting that one of the two lacks is none."""
    common = stored.settings.keys() & current.settings.keys()
    new, old = (
        {key: value for key, value in settings.items() if key in common}
        for settings in (current.settings, stored.settings)
    )
    return list(_setting_changes(old, new))


def join_reasons(reasons: list[str]) -> str:
    """Join reasons to one line, the first few in full."""
    listed = reasons[:_MAX_LISTED]
    rest = len(reasons) - len(listed)
    return "; ".join(listed) + (f"; and {rest} more" if rest else "")


def _version_change(stored: Identity, current: Identity) -> Iterator[str]:
    if stored.version != current.version:
        yield f"step version {stored.version} -> {current.version}"


def _setting_changes(stored: Mapping[str, Any], current: Mapping[str, Any]) -> Iterator[str]:
    for key in [*current, *(key for key in stored if key not in current)]:
        old, new = stored.get(key, "(none)"), current.get(key, "(none)")
        if old != new:
            yield f"{key}: {_format(old)} -> {_format(new)}"


def _input_changes(
    stored: Mapping[str, Mapping[str, str]], current: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    for name in [*current, *(name for name in stored if name not in current)]:
        yield from _file_changes(name, stored.get(name, {}), current.get(name, {}))


def _file_changes(name: str, stored: Mapping[str, str], current: Mapping[str, str]) -> Iterator[str]:
    changed = sorted(path for path in current if path in stored and stored[path] != current[path])
    added = sorted(set(current) - set(stored))
    removed = sorted(set(stored) - set(current))
    for verb, paths in (("changed", changed), ("new", added), ("gone", removed)):
        if paths:
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            yield f"{name}: {paths[0]}{more} {verb}"


def _need_changes(stored: Mapping[str, str], current: Mapping[str, str]) -> Iterator[str]:
    changed = [name for name, fingerprint in current.items() if stored.get(name) != fingerprint]
    if changed:
        yield f"{' and '.join(changed)} changed"


def _format(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
