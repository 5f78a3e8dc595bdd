"""Why a step runs again: the differences between two identities as text."""

from collections.abc import Iterator, Mapping
from typing import Any

from slicewise.engine.receipt import Identity

_MAX_LISTED = 3


def describe_changes(stored: Identity, current: Identity) -> list[str]:
    """Return what differs between the identity of a stored output and the current one."""
    if stored.step != current.step:
        return [f"its home holds an output of {stored.step}"]
    versions = [f"step version {stored.version} -> {current.version}"]
    changed_needs = [name for name, value in current.needs.items() if stored.needs.get(name) != value]
    return [
        *(versions if stored.version != current.version else []),
        *_setting_changes(stored.settings, current.settings),
        *_input_changes(stored.inputs, current.inputs),
        *([f"{' and '.join(changed_needs)} changed"] if changed_needs else []),
    ]


def conflicting_settings(stored: Identity, current: Identity) -> list[str]:
    """Return the settings with other values in an output; one that either of them lacks is no conflict."""
    common = stored.settings.keys() & current.settings.keys()
    new, old = (
        {key: value for key, value in settings.items() if key in common}
        for settings in (current.settings, stored.settings)
    )
    return list(_setting_changes(old, new))


def join_reasons(reasons: list[str]) -> str:
    """Join reasons to one line; only the first few are listed."""
    rest = len(reasons) - _MAX_LISTED
    return "; ".join(reasons[:_MAX_LISTED]) + (f"; and {rest} more" if rest > 0 else "")


def _setting_changes(stored: Mapping[str, Any], current: Mapping[str, Any]) -> Iterator[str]:
    for key in {**current, **stored}:
        old, new = stored.get(key, "(none)"), current.get(key, "(none)")
        if old != new:
            yield f"{key}: {_format(old)} -> {_format(new)}"


def _input_changes(
    stored: Mapping[str, Mapping[str, str]], current: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    for name in {**current, **stored}:
        old, new = stored.get(name, {}), current.get(name, {})
        changed = [path for path in new if path in old and old[path] != new[path]]
        for verb, paths in (
            ("changed", changed), ("new", new.keys() - old.keys()), ("gone", old.keys() - new.keys())
        ):  # fmt: skip
            if paths:
                more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
                yield f"{name}: {min(paths)}{more} {verb}"


def _format(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
