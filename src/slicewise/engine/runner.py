"""Carry a plan out, one step after the other, and keep the record."""

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Generic

from slicewise.core import activity
from slicewise.core.console import say
from slicewise.core.disk import MIB, explain_disk_error, require_space
from slicewise.core.errors import ResourceError, SliceWiseError, UsageError, WorkspaceError
from slicewise.core.files import read_json, sweep, write_json
from slicewise.core.hashing import HashCache
from slicewise.core.machine import (
    MemoryMonitor,
    available_memory,
    is_out_of_memory,
    require_memory,
    trim_memory,
)
from slicewise.core.redact import redact
from slicewise.engine.observers import Console, Observer, Observers, StopRun
from slicewise.engine.plan import Action, Decision, Planner, Request, Selection
from slicewise.engine.receipt import FileChecksum, Receipt, Report, checksum_folder, product_digest
from slicewise.engine.record import RunRecord, StepRecord, package_versions, utc_now
from slicewise.engine.redirects import write_redirects
from slicewise.engine.shelf import ShelfWorkspace
from slicewise.engine.step import C, Context, Demand, Outcome, Step
from slicewise.engine.workspace import Workspace

log = logging.getLogger(__name__)

_MIN_TRIM_BYTES: Final = 64 * MIB
"""Trimming starts with a collection of all Python objects: a third of a second once torch is imported."""
_FRESH_START: Final = ".begun-afresh"
_CONSUMED: Final = ".made-from.json"
"""Beside the work in progress: the products of the needed steps that it was started with. The fingerprint
stays the same when one of them is made again with other content."""


@dataclass
class Runner(Generic[C]):
    """Runs steps in a workspace.

    Attributes:
        confirm: answers a question with yes or no.
        observers: called for every step.
        workspace: in a `ShelfWorkspace` outputs stay on the shelf.
        done: the decisions on the steps so far; those that a later step needs have outputs.
    """

    steps: Sequence[Step[C]]
    config: C
    workspace: Workspace
    hashes: HashCache
    record: RunRecord
    confirm: Callable[[str], bool]
    observers: Observers = field(default_factory=lambda: Observers({"console": Console()}))
    done: dict[str, Decision[C]] = field(default_factory=dict, init=False)
    _demand: Demand = field(default=Demand(), init=False)

    def execute(self, selection: Selection) -> None:
        """Decide and do each step in turn.

        A step is decided only when its turn comes: it is reused if the step before it was made again with the
        same output.

        Raises:
            BaseException: whatever a step raised; the record then names the step and the error.
        """
        self.record.save()
        for step in self.steps:
            with self._turn(step, selection):
                self.done[step.name] = self._execute_step(step, selection)
        self.record.status = "completed"
        self.record.save()

    @contextmanager
    def _turn(self, step: Step[C], selection: Selection) -> Iterator[None]:
        """Wait while another runner on the shelf makes the same output; then it is there, and reused."""
        if not isinstance(self.workspace, ShelfWorkspace) or not step.homes:
            yield
            return
        fingerprint = self._planner(selection).decide(step, self.done).identity.fingerprint
        with self.workspace.turn(step.name, fingerprint):
            yield

    def _execute_step(self, step: Step[C], selection: Selection) -> Decision[C]:
        entry, self._demand = self.record.steps[step.name], Demand()
        try:
            decision = self._decide(step, selection)
            entry.reason = decision.reason
            if decision.action is Action.RUN:
                settled = self._run(decision, entry, fresh=selection.of(step.name) is Request.FORCE)
            else:
                settled = self._reuse_or_skip(decision, entry)
            self._tell(
                step, lambda each: each.finished(step.name, entry.status, settled.reason, settled.output)
            )
        except BaseException as error:
            explained = self._explain_failure(error, step.name)
            failure = explained or error
            entry.status = "interrupted" if isinstance(error, KeyboardInterrupt | StopRun) else "failed"
            entry.error = {"type": type(failure).__name__, "message": redact(str(failure))}
            self.record.status, self.record.error = entry.status, {"step": step.name, **entry.error}
            self.record.save_failed()
            self._tell(step, lambda each: each.failed(step.name, failure))
            if explained is not None:
                raise explained from error
            raise
        finally:
            with suppress(OSError):  # they only save time, and must not hide what stopped the step
                self.workspace.save_hashes(self.hashes)
        return settled

    def _decide(self, step: Step[C], selection: Selection) -> Decision[C]:
        decision = self._planner(selection).decide(step, self.done)
        if decision.action is Action.RUN and selection.of(step.name) is not Request.FORCE:
            question = step.question(self.config, self.workspace)
            existing = self._existing_output(decision, selection) if question else None
            if question and existing and not self.confirm(question):
                return existing
        return decision

    def _existing_output(self, decision: Decision[C], selection: Selection) -> Decision[C] | None:
        """Return what stays if a person says no: a whole output of the same settings, else None."""
        step = decision.step
        skipping = Selection({**selection.requests, step.name: Request.SKIP}, selection.scope)
        try:
            existing = self._planner(skipping).decide(step, self.done)
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
            decision = self._install(decision)
            assert decision.output is not None
            _fill_entry(entry, decision.step, decision.output.receipt)
        entry.duration_seconds = round(time.monotonic() - started, 3)
        return decision

    def _run(self, decision: Decision[C], entry: StepRecord, *, fresh: bool) -> Decision[C]:
        step = decision.step
        self._tell(step, lambda each: each.started(step.name, decision.reason))
        log.info("%s: run, %s", step.name, decision.reason)
        entry.status, entry.fingerprint = "running", decision.identity.fingerprint
        self.record.save()
        context = self._context(decision, fresh=fresh)
        self._check_resources(step, context, entry)
        started, memory = time.monotonic(), MemoryMonitor()

        def tell_epoch(metrics: Mapping[str, float]) -> None:
            self._tell(step, lambda each: each.epoch(step.name, metrics))

        try:
            with memory, activity.step(step.name, decision.reason), activity.epochs(tell_epoch):
                outcome = step.run(context)
        finally:
            entry.duration_seconds = round(time.monotonic() - started, 3)
            entry.peak_memory_mib = memory.peak_mib
            if memory.growth_bytes > _MIN_TRIM_BYTES:
                trim_memory()
        receipt = self._shelve(decision, context, outcome, entry)
        settled = self._install(replace(decision, action=Action.REUSE))  # for later steps
        entry.status = "completed"
        _fill_entry(entry, step, receipt)
        self.record.save()
        return settled

    def _context(self, decision: Decision[C], *, fresh: bool) -> Context[C]:
        step = decision.step
        homes = {
            (name, slot): folder
            for name in step.needs
            if (output := self.done[name].output)
            for slot, folder in output.folders.items()
        }
        partial, faulty = self._partial(decision, fresh=fresh), self.workspace.faulty_shared(step)
        for path in faulty:
            self.hashes.forget(path)
        needs = {name: self.done[name].fingerprint for name in step.needs}
        fingerprint = decision.identity.fingerprint
        return Context(self.config, self.workspace, fingerprint, partial, homes, needs, self.hashes, faulty)

    def _partial(self, decision: Decision[C], *, fresh: bool) -> Path:
        """Return the folder for work in progress, with what an earlier attempt left of the same work.

        `fresh` discards that, unless the attempt was itself started fresh: the same command, given again
        after a stop, continues. Work that was started with other products always goes.
        """
        products = self._products(decision.step)
        partial = self.workspace.partial(decision.step.name, decision.identity.fingerprint)
        try:
            consumed = dict(read_json(partial / _CONSUMED))
        except (OSError, WorkspaceError, TypeError, ValueError):
            consumed = {}
        if (fresh and not (partial / _FRESH_START).exists()) or consumed != products:
            self.workspace.discard(partial)
        partial.mkdir(parents=True, exist_ok=True)
        if fresh:
            (partial / _FRESH_START).touch()
        if products and not (partial / _CONSUMED).exists():
            write_json(partial / _CONSUMED, products)
        sweep(partial, deep=True)
        return partial

    def _products(self, step: Step[C]) -> dict[str, str]:
        """Return the product digest of each needed step."""
        outputs = {name: self.done[name].output for name in step.needs}
        return {name: output.receipt.product for name, output in outputs.items() if output}

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

    def _shelve(
        self, decision: Decision[C], context: Context[C], outcome: Outcome, entry: StepRecord
    ) -> Receipt:
        """Move the finished work to the shelf; return its receipt.

        Raises:
            WorkspaceError: a shared file lies outside the workspace.
        """
        step, root, header = decision.step, self.workspace.root, self.record.header
        shared: dict[str, FileChecksum] = {}
        for path in outcome.shared:
            if not path.absolute().is_relative_to(root):
                raise WorkspaceError(f"{path} lies outside the workspace {root}")
            name = path.absolute().relative_to(root).as_posix()
            shared[name] = FileChecksum.of(path, self.hashes.hash(path))
        files = {slot: checksum_folder(context.out(slot)) for slot in step.homes}
        report = Report(
            metrics=dict(outcome.metrics),
            notes=list(outcome.notes),
            made_at=utc_now(),
            duration_seconds=entry.duration_seconds,
            peak_memory_mib=entry.peak_memory_mib,
            estimated_mib=dict(entry.estimated_mib),
            versions=package_versions(),
            git_commit=header.get("git_commit"),
            command=header.get("command"),
        )
        product = product_digest(files, step.product, shared)
        receipt = Receipt(decision.identity, files, shared, self._products(step), product, report)
        if step.homes:
            shelf = self.workspace.shelve(step, receipt, context.partial)
            for note in (_FRESH_START, _CONSUMED):  # not sooner: without them the work would not count
                (shelf / note).unlink(missing_ok=True)
        else:
            shutil.rmtree(context.partial, ignore_errors=True)
        return receipt

    def _install(self, decision: Decision[C]) -> Decision[C]:
        """Move a decision's output home and return the decision with its folders there.

        Raises:
            WorkspaceError: the output no longer exists.
        """
        step = decision.step
        if not step.homes:
            return decision
        output = self.workspace.find(step, decision.fingerprint)
        if output is not None and not isinstance(self.workspace, ShelfWorkspace):
            self.workspace.install(step, output)
            output = self.workspace.find(step, decision.fingerprint)
            write_redirects(self.workspace.root, step.redirects)
        if output is None:
            raise WorkspaceError(f"the output of {step.name} vanished; run the same command again")
        return replace(decision, output=output)

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


def _fill_entry(entry: StepRecord, step: Step[Any], receipt: Receipt) -> None:
    report = receipt.report
    entry.metrics, entry.made_at = report.metrics, report.made_at
    entry.made_in_seconds, entry.peak_memory_mib = report.duration_seconds, report.peak_memory_mib
    entry.notes = [*report.notes, *entry.notes]  # these are about observers
    entry.estimated_mib = report.estimated_mib
    entry.artifacts = [
        {"path": f"{step.homes[slot]}/{name}", "bytes": checksum.size, "sha256": checksum.sha256}
        for slot, table in receipt.files.items()
        for name, checksum in table.items()
    ]


def _warn(text: str) -> None:
    log.warning(text)
    say(f"  {text}", "warn")
