"""One attempt at one step: its context, and moving its finished output home."""

import html
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Generic

from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json, sweep, write_json, write_text
from slicewise.core.hashing import HashCache
from slicewise.engine.plan import Decision
from slicewise.engine.receipt import FileChecksum, Receipt, checksum_folder, product_digest
from slicewise.engine.step import C, Context, Outcome
from slicewise.engine.workspace import Workspace

_FRESH_START: Final = ".begun-afresh"
_CONSUMED: Final = ".made-from.json"
"""Beside the work in progress: the products of the needed steps that it was started with. The fingerprint
stays the same when one of them is made again with other content."""

_REDIRECT: Final = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url={target}">
<title>Moved</title>
</head>
<body><a href="{target}">{target}</a></body>
</html>
"""


@dataclass(frozen=True)
class Attempt(Generic[C]):
    """`before` holds the decisions on earlier steps; those that this step needs have outputs."""

    decision: Decision[C]
    config: C
    workspace: Workspace
    hashes: HashCache
    before: Mapping[str, Decision[C]]

    def context(self, *, fresh: bool) -> Context[C]:
        """Return what the step may use.

        `fresh` discards what an earlier attempt left, unless that one was itself started fresh: the same
        command, given again after a stop, continues. Work that was started with other products always goes.
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
        products = self._products()
        partial = self.workspace.partial(self.decision.step.name, self.decision.identity.fingerprint)
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

    def _products(self) -> dict[str, str]:
        """Return the product digest of each needed step."""
        outputs = {name: self.before[name].output for name in self.decision.step.needs}
        return {name: output.receipt.product for name, output in outputs.items() if output}

    def finish(self, context: Context[C], outcome: Outcome, report: Mapping[str, Any]) -> Receipt:
        """Move the finished work to the shelf; return its receipt.

        Raises:
            WorkspaceError: a shared file lies outside the workspace.
        """
        step, root = self.decision.step, self.workspace.root
        outside = [path for path in outcome.shared if not path.absolute().is_relative_to(root)]
        if outside:
            raise WorkspaceError(f"{outside[0]} lies outside the workspace {root}")
        files = {slot: checksum_folder(context.out(slot)) for slot in step.homes}
        shared = {
            path.absolute().relative_to(root).as_posix(): FileChecksum.of(path, self.hashes.hash(path))
            for path in outcome.shared
        }
        receipt = Receipt(
            identity=self.decision.identity,
            files=files,
            shared=shared,
            products=self._products(),
            product=product_digest(files, step.product, shared),
            report=report,
        )
        if step.homes:
            shelf = self.workspace.shelve(step.name, step.homes, receipt, context.partial)
            for note in (_FRESH_START, _CONSUMED):  # not sooner: without them the work would not count
                (shelf / note).unlink(missing_ok=True)
        else:
            shutil.rmtree(context.partial, ignore_errors=True)
        return receipt


def install_output(decision: Decision[C], workspace: Workspace) -> Decision[C]:
    """Move a decision's output home and return the decision with its folders there.

    Raises:
        WorkspaceError: the output no longer exists.
    """
    step = decision.step
    if not step.homes:
        return decision
    output = workspace.find(step.name, step.homes, decision.fingerprint)
    if output is not None:
        workspace.install(step.name, step.homes, output)
        output = workspace.find(step.name, step.homes, decision.fingerprint)
        write_redirects(workspace.root, step.redirects)
    if output is None:
        raise WorkspaceError(f"the output of {step.name} vanished; run the same command again")
    return replace(decision, output=output)


def write_redirects(root: Path, redirects: Mapping[str, str]) -> None:
    """Write each page that leads to an output, unless it exists; unlike a copy it is never out of date."""
    for name, target in redirects.items():
        path = root / name
        link = html.escape(Path(os.path.relpath(root / target, path.parent)).as_posix())
        text = _REDIRECT.format(target=link)
        if not path.is_file() or path.read_bytes() != text.encode():
            write_text(path, text)
