"""Which steps a command asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from slicewise.core.errors import UsageError

_MAX_SCOPE_CHARACTERS: Final = 60
"""Characters of step names that a reason repeats; it stands beside every step that is left out."""


class Request(Enum):
    """What the command line says of one step."""

    AUTO = "auto"
    FORCE = "force"
    SKIP = "skip"
    OUTSIDE = "outside"
    """Not asked for; used as it is if a chosen step needs it."""


@dataclass(frozen=True)
class Selection:
    """A request per step, and the words that explain why steps are outside."""

    requests: dict[str, Request]
    scope: str = ""

    def of(self, step: str) -> Request:
        return self.requests.get(step, Request.AUTO)

    def with_skipped(self, step: str) -> "Selection":
        return Selection({**self.requests, step: Request.SKIP}, self.scope)


def select(
    names: Sequence[str],
    *,
    members: Sequence[str],
    scope: str,
    start: str | None = None,
    until: str | None = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    force: Sequence[str] = (),
) -> Selection:
    """Combine mode, range and flags to one request per step.

    `members` are the steps of the mode. `start` and `until` bound a range within them; `only` replaces it.
    `skip` and `force` win over all of these. `scope` is how mode and range were typed, for messages.

    Raises:
        UsageError: an unknown step, an empty range, or a step both skipped and forced.
    """
    _check_names(names, [step for step in (start, until, *only, *skip, *force) if step])
    conflicting = set(skip) & set(force)
    if conflicting:
        raise UsageError(f"{', '.join(sorted(conflicting))}: both skipped and forced; choose one")
    chosen = _select_names(names, members, start, until, only)
    if not chosen:
        raise UsageError(f"{scope}: no step is left; leave one of these options out")
    requests = {name: Request.AUTO if name in chosen else Request.OUTSIDE for name in names}
    requests.update(dict.fromkeys(force, Request.FORCE))
    requests.update(dict.fromkeys(skip, Request.SKIP))
    return Selection(requests, _describe_only(only) if only else scope)


def _select_names(
    names: Sequence[str], members: Sequence[str], start: str | None, until: str | None, only: Sequence[str]
) -> set[str]:
    if only:
        return set(only)
    first = names.index(start) if start else 0
    last = names.index(until) if until else len(names) - 1
    return set(names[first : last + 1]) & set(members)


def _describe_only(names: Sequence[str]) -> str:
    joined = ",".join(names)
    return (
        f"--only {joined}"
        if len(joined) <= _MAX_SCOPE_CHARACTERS
        else f"--only {names[0]},… ({len(names)} steps)"
    )


def _check_names(names: Sequence[str], used: Sequence[str]) -> None:
    unknown = [name for name in used if name not in names]
    if unknown:
        raise UsageError(f"no step is called {', '.join(unknown)}; the steps are {', '.join(names)}")
