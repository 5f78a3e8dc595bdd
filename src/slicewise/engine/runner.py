"""Carry a plan out, one step after the other, and keep the record."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Generic

from slicewise.core import activity
from slicewise.core.console import say
from slicewise.core.disk import MIB, explain_disk_error, require_space
from slicewise.core.errors import ResourceError, SliceWiseError, UsageError
from slicewise.core.hashing import HashCache
from slicewise.core.malloc import trim_memory
from slicewise.core.memory import available_memory, is_out_of_memory, require_memory
from slicewise.core.redact import redact
from slicewise.engine.attempt import Attempt, install_output
from slicewise.engine.observers import Console, Observer, Observers
from slicewise.engine.peak_memory import MemoryMonitor
from slicewise.engine.plan import Action, Decision, Planner
from slicewise.engine.provenance import package_versions
from slicewise.engine.receipt import Receipt
from slicewise.engine.record import RunRecord, StepRecord, utc_now
from slicewise.engine.selection import Request, Selection
from slicewise.engine.step import C, Context, Demand, Outcome, Step
from slicewise.engine.workspace import Workspace

log = logging.getLogger(__name__)

_MIN_TRIM_BYTES = 64 * MIB
"""Trimming starts with a collection of all Python objects: a third of a second once torch is imported."""


@dataclass
class Runner(Generic[C]):
    """Runs steps in a workspace.

    Attributes:
        confirm: answers a question with yes or no.
        observers: called for every step.
    """

    steps: Sequence[Step[C]]
    config: C
    workspace: Workspace
    hashes: HashCache
    record: RunRecord
    confirm: Callable[[str], bool]
    observers: Observers = field(default_factory=lambda: Observers({"console": Console()}))
    _demand: Demand = field(default=Demand(), init=False)

    def execute(self, selection: Selection) -> None:
        """Decide and do each step in turn.

        A step is decided only when its turn comes: it is reused if the step before it was made again with the
        same output.

        Raises:
            BaseException: whatever a step raised; the record then names the step and the error.
        """
        self.record.save()
        done: dict[str, Decision[C]] = {}
        for step in self.steps:
            done[step.name] = self._execute_step(step, selection, done)
        self.record.status = "completed"
        self.record.save()

    def _execute_step(
        self, step: Step[C], selection: Selection, done: Mapping[str, Decision[C]]
    ) -> Decision[C]:
        entry, self._demand = self.record.steps[step.name], Demand()
        try:
            decision = self._decide(step, selection, done)
            entry.reason = decision.reason
            if decision.action is Action.RUN:
                settled = self._run(decision, entry, done, fresh=selection.of(step.name) is Request.FORCE)
            else:
                settled = self._reuse_or_skip(decision, entry)
            self._tell(
                step, lambda each: each.finished(step.name, entry.status, settled.reason, settled.output)
            )
        except BaseException as error:
            explained = self._explain_failure(error, step.name)
            failure = explained or error
            self._record_failure(entry, step, failure)
            self._tell(step, lambda each: each.failed(step.name, failure))
            if explained is not None:
                raise explained from error
            raise
        finally:
            with suppress(OSError):  # they only save time, and must not hide what stopped the step
                self.workspace.save_hashes(self.hashes)
        return settled

    def _decide(self, step: Step[C], selection: Selection, done: Mapping[str, Decision[C]]) -> Decision[C]:
        decision = self._planner(selection).decide(step, done)
        if decision.action is Action.RUN and selection.of(step.name) is not Request.FORCE:
            question = step.question(self.config, self.workspace)
            existing = self._existing_output(decision, selection, done) if question else None
            if question and existing and not self.confirm(question):
                return existing
        return decision

    def _existing_output(
        self, decision: Decision[C], selection: Selection, done: Mapping[str, Decision[C]]
    ) -> Decision[C] | None:
        """Return what stays if a person says no: a whole output of the same settings, else None."""
        name = decision.step.name
        try:
            existing = self._planner(selection.with_skipped(name)).decide(decision.step, done)
        except UsageError:
            return None
        same = existing.output and existing.output.receipt.identity.settings == decision.identity.settings
        reason = f"kept on request; a run would make it again: {decision.reason}"
        return replace(existing, reason=reason) if same else None

    def _planner(self, selection: Selection) -> Planner[C]:
        return Planner(self.steps, self.config, self.workspace, self.hashes, selection)

    def _tell(self, step: Step[C], event: Callable[[Observer], None]) -> None:
        """Tell the observers; a warning about one that fails is recorded."""
        warnings, entry = self.observers.tell(step.name, event), self.record.steps[step.name]
        for warning in warnings:
            _warn(warning)
        if warnings:
            entry.notes = [*entry.notes, *warnings]
            self.record.save_failed()

    def _reuse_or_skip(self, decision: Decision[C], entry: StepRecord) -> Decision[C]:
        started = time.monotonic()
        reused = decision.action is Action.REUSE
        entry.status = "reused" if reused else "skipped"
        if decision.output or (reused and decision.step.is_live):
            entry.fingerprint = decision.fingerprint
        if decision.output:
            decision = install_output(decision, self.workspace)
            assert decision.output is not None
            _fill_entry(entry, decision.step, decision.output.receipt)
        entry.duration_seconds = round(time.monotonic() - started, 3)
        self.record.save()
        return decision

    def _run(
        self, decision: Decision[C], entry: StepRecord, done: Mapping[str, Decision[C]], *, fresh: bool
    ) -> Decision[C]:
        step = decision.step
        self._tell(step, lambda each: each.started(step.name, decision.reason))
        log.info("%s: run, %s", step.name, decision.reason)
        entry.status, entry.fingerprint = "running", decision.identity.fingerprint
        self.record.save()
        attempt = Attempt(decision, self.config, self.workspace, self.hashes, done)
        context = attempt.context(fresh=fresh)
        self._check_resources(step, context, entry)
        started = time.monotonic()
        memory = MemoryMonitor()
        try:
            with memory, activity.step(step.name, decision.reason), activity.epochs(self._tell_epoch(step)):
                outcome = step.run(context)
        finally:
            entry.duration_seconds = round(time.monotonic() - started, 3)
            entry.peak_memory_mib = memory.peak_mib
            if memory.growth_bytes > _MIN_TRIM_BYTES:
                trim_memory()
        receipt = attempt.finish(context, outcome, _build_report(outcome, entry, self.record.header))
        settled = install_output(replace(decision, action=Action.REUSE), self.workspace)  # for later steps
        entry.status = "completed"
        _fill_entry(entry, step, receipt)
        self.record.save()
        return settled

    def _tell_epoch(self, step: Step[C]) -> Callable[[Mapping[str, float]], None]:
        return lambda metrics: self._tell(step, lambda each: each.epoch(step.name, metrics))

    def _check_resources(self, step: Step[C], context: Context[C], entry: StepRecord) -> None:
        """Refuse work for which the disk is too small; warn where memory may be."""
        self._demand = demand = step.demand(context)
        entry.estimated_mib = {
            "disk": round(demand.disk_bytes / MIB),
            "memory": round(demand.memory_bytes / MIB),
        }
        require_space(self.workspace.root, demand.disk_bytes, step.name)
        warning = require_memory(demand.memory_bytes, demand.least_memory_bytes, step.name, demand.remedy)
        if warning is not None:
            _warn(warning)

    def _explain_failure(self, error: BaseException, step: str) -> SliceWiseError | None:
        """Return an error that says what to do about a full disk or memory; None for any other error."""
        if isinstance(error, SliceWiseError) or not isinstance(error, Exception):
            return None
        if is_out_of_memory(error):
            remedy = f", or {self._demand.remedy}" if self._demand.remedy else ""
            return ResourceError(
                f"{step} ran out of memory ({error}): about {self._demand.memory_bytes / MIB:,.0f} MiB were "
                f"expected, {available_memory() / MIB:,.0f} MiB are free now. Stop other programs{remedy}, "
                "then run again; finished steps are kept"
            )
        return explain_disk_error(error, self.workspace.root, self._demand.disk_bytes)

    def _record_failure(self, entry: StepRecord, step: Step[C], error: BaseException) -> None:
        entry.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        entry.error = {"type": type(error).__name__, "message": redact(str(error))}
        self.record.status = entry.status
        self.record.error = {"step": step.name, **entry.error}
        self.record.save_failed()


def _build_report(outcome: Outcome, entry: StepRecord, header: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "metrics": dict(outcome.metrics),
        "notes": list(outcome.notes),
        "made_at": utc_now(),
        "duration_seconds": entry.duration_seconds,
        "peak_memory_mib": entry.peak_memory_mib,
        "estimated_mib": dict(entry.estimated_mib),
        "versions": package_versions(),
        "git_commit": header.get("git_commit"),
        "command": header.get("command"),
    }


def _fill_entry(entry: StepRecord, step: Step[Any], receipt: Receipt) -> None:
    entry.metrics = receipt.report["metrics"]
    entry.notes = [*receipt.report["notes"], *entry.notes]  # these are about observers
    entry.made_at = receipt.report["made_at"]
    entry.made_in_seconds = receipt.report["duration_seconds"]
    entry.peak_memory_mib = receipt.report["peak_memory_mib"]
    entry.estimated_mib = receipt.report.get("estimated_mib", {})
    entry.artifacts = [
        {"path": f"{step.homes[slot]}/{name}", "bytes": checksum.size, "sha256": checksum.sha256}
        for slot, table in receipt.files.items()
        for name, checksum in table.items()
    ]


def _warn(text: str) -> None:
    log.warning(text)
    say(f"  {text}", "warn")
