"""One attempt at one step: its context, and its work sealed and brought home."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Generic

from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json, sweep, write_json
from slicewise.core.hashing import HashCache
from slicewise.engine.plan import Decision
from slicewise.engine.receipt import FileChecksum, Receipt, checksum_folder, product_digest
from slicewise.engine.redirects import write_redirects
from slicewise.engine.step import C, Context, Outcome
from slicewise.engine.workspace import Workspace

_FRESH_START: Final = ".begun-afresh"
_CONSUMED: Final = ".made-from.json"
"""Beside the work in progress: the products of the needed steps that it was begun with. The fingerprint stays
the same when one of them is made again with other content."""


@dataclass(frozen=True)
class Attempt(Generic[C]):
    """`before` holds the settled decisions on earlier steps; those it needs have their outputs found."""

    decision: Decision[C]
    config: C
    workspace: Workspace
    hashes: HashCache
    before: Mapping[str, Decision[C]]

    def context(self, *, fresh: bool) -> Context[C]:
        """Return what the step may use.

        `fresh` throws away what an earlier attempt left, unless that one had begun afresh itself: the same
        command, given again after a stop, continues. What was begun with other products goes in any case.
        """
        step, fingerprint = self.decision.step, self.decision.identity.fingerprint
        partial = self._partial(fresh=fresh)
        homes: dict[tuple[str, str], Path] = {}
        for name in step.needs:
            output = self.before[name].output
            assert output is not None
            homes.update({(name, slot): folder for slot, folder in output.folders.items()})
        needs = {name: self.before[name].fingerprint for name in step.needs}
        faulty = self.workspace.faulty_shared(step.name, step.homes)
        for path in faulty:
            self.hashes.forget(path)
        return Context(self.config, self.workspace, fingerprint, partial, homes, needs, self.hashes, faulty)

    def _partial(self, *, fresh: bool) -> Path:
        """Return the folder for work in progress, with what an earlier attempt left of the same work."""
        step, products = self.decision.step, self._products()
        partial = self.workspace.partial(step.name, self.decision.identity.fingerprint)
        fresh_start = (partial / _FRESH_START).exists()
        if (fresh and not fresh_start) or _read_consumed(partial) != products:
            self.workspace.discard(partial)
        partial.mkdir(parents=True, exist_ok=True)
        if fresh:
            (partial / _FRESH_START).touch()
        if products and not (partial / _CONSUMED).exists():
            write_json(partial / _CONSUMED, products)
        sweep(partial, deep=True)
        return partial

    def _products(self) -> dict[str, str]:
        """Return the digest of what each needed step made."""
        outputs = {name: self.before[name].output for name in self.decision.step.needs}
        return {name: output.receipt.product for name, output in outputs.items() if output}

    def finish(self, context: Context[C], outcome: Outcome, report: Mapping[str, Any]) -> Receipt:
        """Seal the work and bring it home; return its receipt."""
        step = self.decision.step
        files = {slot: checksum_folder(context.out(slot)) for slot in step.homes}
        shared = {self._relative(path): self._checksum(path) for path in outcome.shared}
        receipt = Receipt(
            identity=self.decision.identity,
            files=files,
            shared=shared,
            products=self._products(),
            product=product_digest(files, step.product, shared),
            report=report,
        )
        if step.homes:
            shelf = self.workspace.seal(step.name, step.homes, receipt, context.partial)
            for note in (_FRESH_START, _CONSUMED):  # not sooner: without them the work would not count
                (shelf / note).unlink(missing_ok=True)
        else:
            shutil.rmtree(context.partial, ignore_errors=True)
        return receipt

    def _checksum(self, path: Path) -> FileChecksum:
        return FileChecksum.of(path, self.hashes.hash(path))

    def _relative(self, path: Path) -> str:
        try:
            return path.absolute().relative_to(self.workspace.root).as_posix()
        except ValueError as error:
            raise WorkspaceError(f"{path} lies outside the workspace {self.workspace.root}") from error


def _read_consumed(partial: Path) -> dict[str, str]:
    """Return the products that the work in a folder was begun with; empty where no note can be read."""
    try:
        return dict(read_json(partial / _CONSUMED))
    except (OSError, WorkspaceError, TypeError, ValueError):
        return {}


def install_output(decision: Decision[C], workspace: Workspace) -> Decision[C]:
    """Bring a decision's output home and return the decision with its folders there.

    Raises:
        WorkspaceError: the output is no longer there.
    """
    step = decision.step
    if not step.homes:
        return decision
    output = workspace.find(step.name, step.homes, decision.fingerprint)
    if output is not None:
        workspace.bring_home(step.name, step.homes, output)
        output = workspace.find(step.name, step.homes, decision.fingerprint)
        write_redirects(workspace.root, step.redirects)
    if output is None:
        raise WorkspaceError(f"the output of {step.name} vanished; run the same command again")
    return replace(decision, output=output)
