"""Which steps a command line selects."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from slicewise.core.errors import UsageError

_MAX_SCOPE_CHARACTERS: Final = 60
"""Characters of step names in a reason, which is shown beside every step that is left out"""


class Request(Enum):
    """What the command line says of one step."""

    AUTO = "auto"
    FORCE = "force"
    SKIP = "skip"
    OUTSIDE = "outside"
    """Not selected; its output is used as it is if a selected step needs it."""


@dataclass(frozen=True)
class Selection:
    """A request per step, and the option that leaves steps outside, for messages."""

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
    """Return one request per step from mode, range and flags.

    `members` are the steps of the mode. `start` and `until` bound a range within them; `only` replaces it.
    `skip` and `force` take precedence. `scope` is how mode and range were typed, for messages.

    Raises:
        UsageError: an unknown step, an empty range, or a step both skipped and forced.
    """
    unknown = [name for name in (start, until, *only, *skip, *force) if name and name not in names]
    if unknown:
        raise UsageError(f"no step is called {', '.join(unknown)}; the steps are {', '.join(names)}")
    conflicting = set(skip) & set(force)
    if conflicting:
        raise UsageError(f"{', '.join(sorted(conflicting))}: both skipped and forced; choose one")
    first = names.index(start) if start else 0
    last = names.index(until) if until else len(names) - 1
    chosen = set(only) or set(names[first : last + 1]) & set(members)
    if not chosen:
        raise UsageError(f"{scope}: no step is left; leave one of these options out")
    if only:
        joined = ",".join(only)
        short = len(joined) <= _MAX_SCOPE_CHARACTERS
        scope = f"--only {joined}" if short else f"--only {only[0]},… ({len(only)} steps)"
    requests = {name: Request.AUTO if name in chosen else Request.OUTSIDE for name in names}
    requests |= dict.fromkeys(force, Request.FORCE) | dict.fromkeys(skip, Request.SKIP)
    return Selection(requests, scope)
