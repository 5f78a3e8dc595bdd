"""Which steps a command line selects."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Final

from slicewise.core.errors import UsageError
from slicewise.engine.step import C, Step

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
    steps: Sequence[Step[C]],
    *,
    groups: Collection[str] = (),
    scope: str,
    start: str | None = None,
    until: str | None = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    force: Sequence[str] = (),
) -> Selection:
    """Return one request per step from mode, range and flags; an alias stands for all steps that have it.

    `groups` are those of the mode, none for all. `start` and `until` bound a range within them, in every fold
    where they name no fold; `only` replaces it. `skip` and `force` take precedence. `scope` is how mode and
    range were typed, for messages.

    Raises:
        UsageError: an empty range, or a step both skipped and forced or selected.
    """
    wanted, skipped, forced = (expand(names, steps) for names in (only, skip, force))
    for word, others in (("forced", forced), ("named by --only", wanted)):
        if both := [name for name in others if name in skipped]:
            raise UsageError(f"{', '.join(both)}: both skipped and {word}; choose one")
    names = [step.name for step in steps]
    first = names.index(expand([start], steps)[0]) if start else 0
    last = names.index(expand([until], steps)[-1]) if until else len(names) - 1
    chosen = wanted or [
        step.name
        for step in steps[first : last + 1]
        if (not groups or step.group in groups) and _is_in_range(step, steps, start, until)
    ]
    if not chosen:
        raise UsageError(f"{scope}: no step is left; leave one of these options out")
    if wanted:
        joined = ",".join(wanted)
        short = len(joined) <= _MAX_SCOPE_CHARACTERS
        scope = f"--only {joined}" if short else f"--only {wanted[0]},… ({len(wanted)} steps)"
    requests = {name: Request.AUTO if name in chosen else Request.OUTSIDE for name in names}
    requests |= dict.fromkeys(forced, Request.FORCE) | dict.fromkeys(skipped, Request.SKIP)
    return Selection(requests, scope)


def expand(names: Iterable[str], steps: Sequence[Step[C]]) -> list[str]:
    """Return the steps that names or aliases mean, in the order of the pipeline.

    Raises:
        UsageError: one of them means no step.
    """
    wanted = list(names)
    for name in wanted:
        if not any(step.is_called(name) for step in steps):
            known = dict.fromkeys(word for step in steps for word in (step.name, *step.aliases))
            near = get_close_matches(name, known, n=1)
            guess = f"did you mean {near[0]}? " if near else ""
            listed = ", ".join(step.name for step in steps)
            raise UsageError(f"no step is called {name}; {guess}the steps are {listed}")
    return [step.name for step in steps if any(map(step.is_called, wanted))]


def _is_in_range(step: Step[C], steps: Sequence[Step[C]], start: str | None, until: str | None) -> bool:
    """Return whether a step of a fold lies between two names that bound every fold."""
    siblings = [each for each in steps if each.fold == step.fold] if step.fold else []
    place = siblings.index(step) if siblings else 0
    begins, ends = (
        [number for number, each in enumerate(siblings) if bound in (each.option, *each.aliases)]
        for bound in (start, until)
    )
    return not ((begins and place < begins[0]) or (ends and place > ends[-1]))
