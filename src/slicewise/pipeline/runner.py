"""Carry a plan out, one step after the other, and keep the record."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic

from slicewise.core import live
from slicewise.core.allocator import give_back_memory
from slicewise.core.console import say
from slicewise.core.errors import UsageError
from slicewise.core.files import require_space
from slicewise.core.fingerprint import HashCache
from slicewise.core.memory import require_memory
from slicewise.core.redact import redact
from slicewise.core.storage import MIB
from slicewise.pipeline.attempt import Attempt, at_home
from slicewise.pipeline.failures import explain, keep_record
from slicewise.pipeline.memory import MemoryWatch
from slicewise.pipeline.plan import Action, Decision, Planner
from slicewise.pipeline.provenance import versions
from slicewise.pipeline.receipt import Receipt
from slicewise.pipeline.record import RunRecord, StepRecord, now
from slicewise.pipeline.selection import Request, Selection
from slicewise.pipeline.step import C, Context, Demand, Outcome, Step
from slicewise.pipeline.workspace import Workspace

log = logging.getLogger(__name__)

_WORTH_GIVING_BACK = 64 * MIB
"""Collecting all of Python's objects takes a third of a second once torch and its like are imported."""


@dataclass
class Runner(Generic[C]):
    """Runs steps in a workspace.

    `ask` answers a question with yes or no. `observe` is told of each output when it is at home, made now or
    earlier: its step, its receipt and the folder of each slot. It raises nothing and returns warnings.
    """

    steps: Sequence[Step[C]]
    config: C
    workspace: Workspace
    hashes: HashCache
    record: RunRecord
    ask: Callable[[str], bool]
    observe: Callable[[str, Receipt, Mapping[str, Path]], Sequence[str]] = lambda *_: ()
    _demand: Demand = field(default=Demand(), init=False)

    def execute(self, selection: Selection) -> None:
        """Decide and do each step in turn.

        A step is decided only when its turn comes: if the one before it was made again with the same output,
        it is reused.

        Raises:
            BaseException: whatever a step raised; the record then names the step and the error.
        """
        self.record.save()
        done: dict[str, Decision[C]] = {}
        for step in self.steps:
            done[step.name] = self._guarded(step, selection, done)
        self.record.status = "completed"
        self.record.save()

    def _guarded(self, step: Step[C], selection: Selection, done: Mapping[str, Decision[C]]) -> Decision[C]:
        entry, self._demand = self.record.steps[step.name], Demand()
        try:
            decision = self._decide(step, selection, done)
            entry.reason = decision.reason
            if decision.action is Action.RUN:
                fresh = selection.of(step.name) is Request.FORCE
                return self._observed(self._run(decision, entry, done, fresh=fresh), entry)
            return self._observed(self._keep(decision, entry), entry)
        except BaseException as error:
            told = explain(error, step.name, self.workspace, self._demand)
            self._fail(entry, step, told or error)
            if told is not None:
                raise told from error
            raise
        finally:
            with suppress(OSError):  # they only save time, and must not hide what stopped the step
                self.workspace.save_hashes(self.hashes)

    def _decide(self, step: Step[C], selection: Selection, done: Mapping[str, Decision[C]]) -> Decision[C]:
        decision = self._planner(selection).decide(step, done)
        if decision.action is Action.RUN and selection.of(step.name) is not Request.FORCE:
            question = step.question(self.config, self.workspace)
            kept = self._kept_instead(decision, selection, done) if question else None
            if question and kept and not self.ask(question):
                return kept
        return decision

    def _kept_instead(
        self, decision: Decision[C], selection: Selection, done: Mapping[str, Decision[C]]
    ) -> Decision[C] | None:
        """Return what stays if a person says no: a whole output of the same settings, else None."""
        name = decision.step.name
        try:
            kept = self._planner(selection.with_skipped(name)).decide(decision.step, done)
        except UsageError:
            return None
        same = kept.found and kept.found.receipt.identity.settings == decision.identity.settings
        reason = f"kept, as was answered; a run would make it anew: {decision.reason}"
        return replace(kept, reason=reason) if same else None

    def _observed(self, settled: Decision[C], entry: StepRecord) -> Decision[C]:
        found = settled.found
        warnings = self.observe(settled.step.name, found.receipt, found.folders) if found else ()
        for warning in warnings:
            log.warning(warning)
            say(f"  {warning}", "warn")
        if warnings:
            entry.notes = [*entry.notes, *warnings]
            self.record.save()
        return settled

    def _planner(self, selection: Selection) -> Planner[C]:
        return Planner(self.steps, self.config, self.workspace, self.hashes, selection)

    def _keep(self, decision: Decision[C], entry: StepRecord) -> Decision[C]:
        started = time.monotonic()
        reused = decision.action is Action.REUSE
        entry.status = "reused" if reused else "skipped"
        if decision.found or (reused and decision.step.is_live):
            entry.fingerprint = decision.fingerprint
        if decision.found:
            decision = at_home(decision, self.workspace)
            assert decision.found is not None
            _describe(entry, decision.step, decision.found.receipt)
        # While nothing has run, the plan above has said it all.
        if any(step.status == "completed" for step in self.record.steps.values()):
            say(f"{decision.step.name:<18} {entry.status:<8} {decision.reason}", "dim")
        entry.duration_seconds = round(time.monotonic() - started, 3)
        self.record.save()
        return decision

    def _run(
        self, decision: Decision[C], entry: StepRecord, done: Mapping[str, Decision[C]], *, fresh: bool
    ) -> Decision[C]:
        step = decision.step
        say(f"{step.name:<18} {'run':<8} {decision.reason}", "header")
        log.info("%s: run, %s", step.name, decision.reason)
        entry.status, entry.fingerprint = "running", decision.identity.fingerprint
        self.record.save()
        attempt = Attempt(decision, self.config, self.workspace, self.hashes, done)
        context = attempt.context(fresh=fresh)
        self._require(step, context, entry)
        started = time.monotonic()
        memory = MemoryWatch()
        try:
            with memory, live.step(step.name, decision.reason):
                outcome = step.run(context)
        finally:
            entry.duration_seconds = round(time.monotonic() - started, 3)
            entry.peak_memory_mib = memory.peak_mib
            if memory.growth_bytes > _WORTH_GIVING_BACK:
                give_back_memory()
        receipt = attempt.finish(context, outcome, _report(outcome, entry, self.record.header))
        settled = at_home(_settled(decision), self.workspace)
        entry.status = "completed"
        _describe(entry, step, receipt)
        _tell(entry)
        self.record.save()
        return settled

    def _require(self, step: Step[C], context: Context[C], entry: StepRecord) -> None:
        """Refuse work for which the disk is too small; say where memory may be."""
        self._demand = demand = step.demand(context)
        entry.estimated_mib = {
            "disk": round(demand.disk_bytes / MIB),
            "memory": round(demand.memory_bytes / MIB),
        }
        require_space(self.workspace.root, demand.disk_bytes, step.name)
        warning = require_memory(demand.memory_bytes, demand.least_memory_bytes, step.name, demand.remedy)
        if warning is not None:
            log.warning(warning)
            say(f"  {warning}", "warn")

    def _fail(self, entry: StepRecord, step: Step[C], error: BaseException) -> None:
        entry.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        entry.error = {"type": type(error).__name__, "message": redact(str(error))}
        self.record.status = entry.status
        self.record.error = {"step": step.name, **entry.error}
        keep_record(self.record)


def _settled(decision: Decision[C]) -> Decision[C]:
    """Return the decision as later steps see it: the output is there, as good as reused."""
    return replace(decision, action=Action.REUSE)


def _report(outcome: Outcome, entry: StepRecord, header: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "metrics": dict(outcome.metrics),
        "notes": list(outcome.notes),
        "made_at": now(),
        "duration_seconds": entry.duration_seconds,
        "peak_memory_mib": entry.peak_memory_mib,
        "estimated_mib": dict(entry.estimated_mib),
        "versions": versions(),
        "git_commit": header.get("git_commit"),
        "command": header.get("command"),
    }


def _describe(entry: StepRecord, step: Step[Any], receipt: Receipt) -> None:
    entry.metrics = receipt.report["metrics"]
    entry.notes = receipt.report["notes"]
    entry.made_at = receipt.report["made_at"]
    entry.made_in_seconds = receipt.report["duration_seconds"]
    entry.peak_memory_mib = receipt.report["peak_memory_mib"]
    entry.estimated_mib = receipt.report.get("estimated_mib", {})
    entry.artifacts = [
        {"path": f"{step.homes[slot]}/{name}", "bytes": seal.size, "sha256": seal.sha256}
        for slot, table in receipt.files.items()
        for name, seal in table.items()
    ]


def _tell(entry: StepRecord) -> None:
    for note in entry.notes:
        say(f"  {note}", "warn")
    say(f"  done in {entry.duration_seconds:.1f} s, peak memory {entry.peak_memory_mib} MiB", "good")
