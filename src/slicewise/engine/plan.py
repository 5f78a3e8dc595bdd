"""Which steps a command line selects; for each one whether it runs, is reused or is skipped, and why."""

import errno
import gc
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from enum import Enum
from functools import cached_property
from stat import S_ISREG
from typing import Final, Generic

from slicewise.core.errors import UsageError
from slicewise.core.hashing import HashCache
from slicewise.engine.receipt import (
    Identity,
    Receipt,
    conflicting_settings,
    describe_changes,
    join_reasons,
    read_origin,
)
from slicewise.engine.step import C, Input, Step
from slicewise.engine.workspace import StoredOutput, Workspace

_LEADS_NOWHERE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""Of a link"""
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


class Action(Enum):
    """What happens to a step."""

    RUN = "run"
    CHECK = "check"
    """A needed step runs again under the same identity; this one is reused if that gives the same output."""
    REUSE = "reuse"
    SKIP = "skip"


@dataclass(frozen=True)
class Decision(Generic[C]):
    """What happens to a step, why, and the identity of its output."""

    step: Step[C]
    action: Action
    reason: str
    identity: Identity
    output: StoredOutput | None = None

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the output that later steps use: of the existing one, if that is used."""
        return self.output.receipt.fingerprint if self.output else self.identity.fingerprint


@dataclass(frozen=True)
class Planner(Generic[C]):
    """Decides steps in order; each decision depends on the ones before it."""

    steps: Sequence[Step[C]]
    config: C
    workspace: Workspace
    hashes: HashCache
    selection: Selection

    @cached_property
    def _upstream(self) -> frozenset[str]:
        return _needed(self.steps, self.selection, through_skipped=True)

    @cached_property
    def _required(self) -> frozenset[str]:
        return _needed(self.steps, self.selection, through_skipped=False)

    def decide(self, step: Step[C], before: Mapping[str, Decision[C]]) -> Decision[C]:
        """Decide one step, given the decisions on the steps it needs."""
        request = self.selection.of(step.name)
        if request is Request.OUTSIDE and step.name not in self._upstream:
            nothing = Identity(step.name, step.version, {}, {}, {})
            return Decision(step, Action.SKIP, f"not part of {self.selection.scope}", nothing)
        identity = self._identity(step, before)
        if request is Request.SKIP:
            return self._skip(step, identity, before)
        if request is Request.FORCE:
            return Decision(step, Action.RUN, "forced", identity)
        decision = self._run_or_reuse(step, identity, before)
        return self._outside(decision) if request is Request.OUTSIDE else decision

    def _identity(self, step: Step[C], before: Mapping[str, Decision[C]]) -> Identity:
        return Identity(
            step=step.name,
            version=step.version,
            settings=dict(step.settings(self.config)),
            needs={name: before[name].fingerprint for name in step.needs},
            inputs={name: self._hash_input(source) for name, source in step.inputs(self.config).items()},
        )

    def _hash_input(self, source: Input) -> dict[str, str]:
        prefix, digests = f"{source.root}/", dict[str, str]()
        for file in source.files():  # there may be many
            try:
                status = os.stat(file)  # noqa: PTH116
            except OSError as error:
                if error.errno in _LEADS_NOWHERE:
                    continue
                raise
            if S_ISREG(status.st_mode):
                path = str(file)
                inside = path.startswith(prefix)
                name = path.removeprefix(prefix) if inside else file.relative_to(source.root).as_posix()
                digests[name] = self.hashes.hash(file, status)
        return digests

    def _run_or_reuse(
        self, step: Step[C], identity: Identity, before: Mapping[str, Decision[C]]
    ) -> Decision[C]:
        if step.is_live is not None and not step.homes:
            if not step.is_live(self.workspace, identity.fingerprint):
                return Decision(step, Action.RUN, "not running with these settings", identity)
            return self._after_reruns(Decision(step, Action.REUSE, "running", identity), before)
        output = self.workspace.find(step, identity.fingerprint)
        if output is None:
            return Decision(step, Action.RUN, self._why_missing(step, identity), identity)
        if faults := join_reasons(self.workspace.faults(output)):
            return Decision(step, Action.RUN, faults, identity)
        homes = {slot: self.workspace.home(home) for slot, home in step.homes.items()}
        reason = "unchanged" if output.folders == homes else "made earlier with these settings"
        if origin := read_origin(next(iter(output.folders.values()))):
            reason = f"{reason}, pulled from {origin}"
        return self._after_reruns(Decision(step, Action.REUSE, reason, identity, output), before)

    def _after_reruns(self, decision: Decision[C], before: Mapping[str, Decision[C]]) -> Decision[C]:
        rerun = [n for n in decision.step.needs if before[n].action in (Action.RUN, Action.CHECK)]
        if rerun:
            reason = f"reused if {' and '.join(rerun)} gives the same output again"
            return replace(decision, action=Action.CHECK, reason=reason)
        consumed = decision.output.receipt.products if decision.output else {}
        for name in decision.step.needs:
            output = before[name].output
            if output is not None and consumed.get(name, output.receipt.product) != output.receipt.product:
                return replace(decision, action=Action.RUN, reason=f"{name} gave another output", output=None)
        return decision

    def _why_missing(self, step: Step[C], identity: Identity) -> str:
        receipt = self.workspace.home_receipt(step)
        if receipt is None:
            return join_reasons(self.workspace.mismatches(step)) or "no output yet"
        if receipt.fingerprint == identity.fingerprint:
            return join_reasons(self.workspace.mismatches(step, identity.fingerprint))
        return join_reasons(describe_changes(receipt.identity, identity)) or "the identity changed"

    def _outside(self, decision: Decision[C]) -> Decision[C]:
        """Use the existing output. A CHECK may still be reused; if not, it is refused when its turn comes."""
        name, step = decision.step.name, decision.step
        if name not in self._required:  # only a skipped step was made from it
            return replace(decision, action=Action.SKIP, reason=f"not part of {self.selection.scope}")
        if decision.action is not Action.RUN:
            return decision
        outside = [other for other in self.steps if self.selection.of(other.name) is Request.OUTSIDE]
        last = [other for other in outside if other.name in self._required][-1]
        receipt = self.workspace.home_receipt(step)
        usable = receipt is not None and not conflicting_settings(receipt.identity, decision.identity)
        raise UsageError(
            f"{self.selection.scope} needs {name}, which would have to run: {decision.reason}. "
            f"Run it first, with --until {last.option} in place of {self.selection.scope}"
            + (f", or use what is there with --skip-{step.option}" if usable else "")
        )

    def _skip(self, step: Step[C], identity: Identity, before: Mapping[str, Decision[C]]) -> Decision[C]:
        receipt = self.workspace.home_receipt(step)
        if receipt is None and step.name not in self._required:
            return Decision(step, Action.SKIP, f"--skip-{step.option}", identity)
        output = self.workspace.find(step, receipt.fingerprint) if receipt else None
        faults = join_reasons(self.workspace.faults(output)) if output else "its output is missing"
        if faults:
            raise UsageError(
                f"--skip-{step.option}: later steps need {step.name}, but {faults}. "
                "Leave the option out to make it"
            )
        assert output is not None
        if step.name in self._upstream:
            _require_consistent(step, output.receipt, identity, before)
        changes = join_reasons(describe_changes(output.receipt.identity, identity))
        reason = f"--skip-{step.option}" + (f"; a run would make it again: {changes}" if changes else "")
        return Decision(step, Action.SKIP, reason, identity, output)


def _require_consistent(
    step: Step[C], receipt: Receipt, expected: Identity, before: Mapping[str, Decision[C]]
) -> None:
    """Refuse to build on an output of other settings, or on one made from another output than the rest.

    Later steps would report settings that made nothing. And with another split, a model would be tested on
    patients that it was trained on.
    """
    if conflicts := conflicting_settings(receipt.identity, expected):
        raise UsageError(
            f"--skip-{step.option}: the output of {step.name} was made with other settings: "
            f"{join_reasons(conflicts)}. Set these values, or leave the option out to make it again"
        )
    inconsistent = []
    for name in step.needs:
        output, product = before[name].output, receipt.products.get(name)
        if output is not None and product is not None:
            same = product == output.receipt.product
        else:
            same = receipt.identity.needs.get(name) == expected.needs[name]
        if not same:
            inconsistent.append(name)
    if inconsistent:
        raise UsageError(
            f"--skip-{step.option}: the output of {step.name} was made from another "
            f"{' and '.join(inconsistent)} than this command has. Leave the option out to make it again, or "
            "set the values that it was made with"
        )


def _needed(steps: Sequence[Step[C]], selection: Selection, *, through_skipped: bool) -> frozenset[str]:
    """Return the steps that a selected step is made from, directly or through other steps."""
    needed: set[str] = set()
    for step in reversed(steps):
        request = selection.of(step.name)
        passes_on = step.name in needed and (through_skipped or request is not Request.SKIP)
        if passes_on or request in (Request.AUTO, Request.FORCE):
            needed.update(step.needs)
    return frozenset(needed)


def plan(
    steps: Sequence[Step[C]], config: C, workspace: Workspace, hashes: HashCache, selection: Selection
) -> list[Decision[C]]:
    """Return the decision on every step, without doing anything."""
    planner = Planner(steps, config, workspace, hashes, selection)
    decisions: dict[str, Decision[C]] = {}
    collects = gc.isenabled()
    gc.disable()  # of many files it would look through all names again and again, a fifth of the time
    try:
        for step in steps:
            decisions[step.name] = planner.decide(step, decisions)
    finally:
        if collects:
            gc.enable()
    return list(decisions.values())


def check_settings(decisions: Iterable[Decision[C]], config: C) -> None:
    """Refuse a configuration that a step cannot run which is going to run: hours of others may come before.

    Raises:
        ConfigError: it names the key.
    """
    for decision in decisions:
        if decision.action in (Action.RUN, Action.CHECK):
            decision.step.check(config)
