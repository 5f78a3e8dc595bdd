"""Decide for each step whether it runs, is reused or is skipped, and say why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Generic

from slicewise.core.errors import UsageError
from slicewise.core.hashing import HashCache
from slicewise.engine.reasons import conflicting_settings, describe_changes, join_reasons
from slicewise.engine.receipt import Identity, Receipt
from slicewise.engine.selection import Request, Selection
from slicewise.engine.step import C, Input, Step
from slicewise.engine.workspace import StoredOutput, Workspace


class Action(Enum):
    """What happens to a step."""

    RUN = "run"
    CHECK = "check"
    """A needed step is made again under the same identity; reused if that gives the same output."""
    REUSE = "reuse"
    SKIP = "skip"


@dataclass(frozen=True)
class Decision(Generic[C]):
    """What happens to a step, why, and the identity of its output afterwards."""

    step: Step[C]
    action: Action
    reason: str
    identity: Identity
    output: StoredOutput | None = None

    @property
    def fingerprint(self) -> str:
        """Identity of the output that later steps see: of what is there, if that is used."""
        return self.output.receipt.fingerprint if self.output else self.identity.fingerprint


class Planner(Generic[C]):
    """Decides steps in order; each decision looks at the ones before it."""

    def __init__(
        self,
        steps: Sequence[Step[C]],
        config: C,
        workspace: Workspace,
        hashes: HashCache,
        selection: Selection,
    ) -> None:
        self._steps = steps
        self._config = config
        self._workspace = workspace
        self._hashes = hashes
        self._selection = selection
        self._required = _required(steps, selection)
        self._upstream = _upstream(steps, selection)

    def decide(self, step: Step[C], before: Mapping[str, Decision[C]]) -> Decision[C]:
        """Decide one step, given the decisions on the steps it needs."""
        if self._selection.of(step.name) is Request.OUTSIDE and step.name not in self._upstream:
            return self._not_needed(step)
        identity = self._identity(step, before)
        match self._selection.of(step.name):
            case Request.SKIP:
                return self._skip(step, identity, before)
            case Request.FORCE:
                return Decision(step, Action.RUN, "forced", identity)
            case Request.OUTSIDE:
                return self._outside(self._run_or_reuse(step, identity, before))
            case _:
                return self._run_or_reuse(step, identity, before)

    def _identity(self, step: Step[C], before: Mapping[str, Decision[C]]) -> Identity:
        return Identity(
            step=step.name,
            version=step.version,
            settings=dict(step.settings(self._config)),
            needs={name: before[name].fingerprint for name in step.needs},
            inputs={name: self._hash_input(source) for name, source in step.inputs(self._config).items()},
        )

    def _hash_input(self, source: Input) -> dict[str, str]:
        files = (file for file in source.files() if file.is_file())  # a link may lead to nothing
        return {file.relative_to(source.root).as_posix(): self._hashes.hash(file) for file in files}

    def _run_or_reuse(
        self, step: Step[C], identity: Identity, before: Mapping[str, Decision[C]]
    ) -> Decision[C]:
        if step.is_live is not None and not step.homes:
            return self._service(step, identity, before)
        output = self._workspace.find(step.name, step.homes, identity.fingerprint)
        if output is None:
            return Decision(step, Action.RUN, self._why_missing(step, identity), identity)
        faults = list(self._workspace.faults(output))
        if faults:
            return Decision(step, Action.RUN, join_reasons(faults), identity)
        reason = "unchanged" if self._is_home(step, output) else "made earlier with these settings"
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

    def _service(self, step: Step[C], identity: Identity, before: Mapping[str, Decision[C]]) -> Decision[C]:
        assert step.is_live is not None
        if step.is_live(self._workspace, identity.fingerprint):
            return self._after_reruns(Decision(step, Action.REUSE, "running", identity), before)
        return Decision(step, Action.RUN, "not running with these settings", identity)

    def _why_missing(self, step: Step[C], identity: Identity) -> str:
        receipt = self._workspace.at_home(step.homes)
        if receipt is None:
            return join_reasons(list(self._workspace.mismatches(step.name, step.homes))) or "no output yet"
        if receipt.fingerprint == identity.fingerprint:
            return join_reasons(list(self._workspace.mismatches(step.name, step.homes, identity.fingerprint)))
        return join_reasons(describe_changes(receipt.identity, identity)) or "the identity changed"

    def _is_home(self, step: Step[C], output: StoredOutput) -> bool:
        return all(output.folders[slot] == self._workspace.home(home) for slot, home in step.homes.items())

    def _not_needed(self, step: Step[C]) -> Decision[C]:
        identity = Identity(step.name, step.version, {}, {}, {})
        return Decision(step, Action.SKIP, f"not part of {self._selection.scope}", identity)

    def _outside(self, decision: Decision[C]) -> Decision[C]:
        """Use what is there. A CHECK may still turn out well; if not, it is refused when its turn comes."""
        name, step = decision.step.name, decision.step
        if name not in self._required:  # behind a step that is skipped: it says what that one was made from
            return replace(decision, action=Action.SKIP, reason=f"not part of {self._selection.scope}")
        if decision.action is not Action.RUN:
            return decision
        last = [other for other in self._steps if self._is_outside(other)][-1]
        receipt = self._workspace.at_home(step.homes)
        usable = receipt is not None and not conflicting_settings(receipt.identity, decision.identity)
        raise UsageError(
            f"{self._selection.scope} needs {name}, which would have to run: {decision.reason}. "
            f"Run it first, with --until {last.option} in place of {self._selection.scope}"
            + (f", or use what is there with --skip-{step.option}" if usable else "")
        )

    def _is_outside(self, step: Step[C]) -> bool:
        return step.name in self._required and self._selection.of(step.name) is Request.OUTSIDE

    def _skip(self, step: Step[C], identity: Identity, before: Mapping[str, Decision[C]]) -> Decision[C]:
        receipt = self._workspace.at_home(step.homes)
        if receipt is None and step.name not in self._required:
            return Decision(step, Action.SKIP, f"--skip-{step.option}", identity)
        output = self._workspace.find(step.name, step.homes, receipt.fingerprint) if receipt else None
        faults = list(self._workspace.faults(output)) if output else ["its output is missing"]
        if faults:
            raise UsageError(
                f"--skip-{step.option} cannot be obeyed, because later steps need {step.name}: "
                f"{join_reasons(faults)}. Leave the option out, and it is made"
            )
        assert output is not None
        if step.name in self._upstream:
            _require_consistent(step, output.receipt, identity, before)
        changes = join_reasons(describe_changes(output.receipt.identity, identity))
        reason = f"--skip-{step.option}" + (f"; a run would make it anew: {changes}" if changes else "")
        return Decision(step, Action.SKIP, reason, identity, output)


def _require_consistent(
    step: Step[C], receipt: Receipt, expected: Identity, before: Mapping[str, Decision[C]]
) -> None:
    """Refuse to build on an output of other settings, or on one made from another output than the rest.

    Later steps read the configuration, and report it: they would tell of settings that made nothing. And a
    network would be tested on patients whom it learned from, were its split another one.
    """
    conflicts = conflicting_settings(receipt.identity, expected)
    if conflicts:
        raise UsageError(
            f"--skip-{step.option} cannot be obeyed: the output of {step.name} was made with other settings: "
            f"{join_reasons(conflicts)}. Give the settings that made it, or leave the option out to make "
            "it again"
        )
    inconsistent = [name for name in step.needs if not _is_same_need(name, receipt, expected, before[name])]
    if inconsistent:
        raise UsageError(
            f"--skip-{step.option} cannot be obeyed: the output of {step.name} was made from another "
            f"{' and '.join(inconsistent)} than this command has. Leave the option out to "
            "make it again, or give the settings that it was made with"
        )


def _is_same_need(name: str, receipt: Receipt, expected: Identity, need: Decision[C]) -> bool:
    product = receipt.products.get(name)
    if need.output is not None and product is not None:
        return product == need.output.receipt.product
    return receipt.identity.needs.get(name) == expected.needs[name]


def _upstream(steps: Sequence[Step[C]], selection: Selection) -> frozenset[str]:
    """Return all that a chosen step is made from, at first or at second hand, skipped or not."""
    upstream: set[str] = set()
    for step in reversed(steps):
        if selection.of(step.name) in (Request.AUTO, Request.FORCE) or step.name in upstream:
            upstream.update(step.needs)
    return frozenset(upstream)


def _required(steps: Sequence[Step[C]], selection: Selection) -> frozenset[str]:
    """Return the steps that a chosen step needs, directly or through others that are not chosen."""
    required: set[str] = set()
    for step in reversed(steps):
        active = selection.of(step.name) in (Request.AUTO, Request.FORCE)
        if active or (step.name in required and selection.of(step.name) is not Request.SKIP):
            required.update(step.needs)
    return frozenset(required)


def plan(
    steps: Sequence[Step[C]], config: C, workspace: Workspace, hashes: HashCache, selection: Selection
) -> list[Decision[C]]:
    """Decide every step, without doing anything."""
    planner = Planner(steps, config, workspace, hashes, selection)
    decisions: dict[str, Decision[C]] = {}
    for step in steps:
        decisions[step.name] = planner.decide(step, decisions)
    return list(decisions.values())
