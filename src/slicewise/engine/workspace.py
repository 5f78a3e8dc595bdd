"""Where outputs live.

    <root>/checkpoints/..., results/..., data/...   homes: the finished output of today's settings
    <root>/.slicewise/shelf/<step>/<fingerprint>/   finished outputs of other settings
    <root>/.slicewise/partial/<step>/<fingerprint>/ work in progress

A finished output moves to the shelf by one rename, complete and with its receipt, and to its home by another.
A kill between two renames leaves every slot whole in one of the two places, and `find` looks in both.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from slicewise.core.files import parse_json, read_capped, sweep, write_json
from slicewise.core.hashing import HashCache, digest
from slicewise.core.typed_json import from_json
from slicewise.engine.fence import Fence
from slicewise.engine.receipt import RECEIPT_NAME, FileChecksum, InsidePath, Receipt, read_suspects

STATE_DIR = ".slicewise"
HASHES_NAME = "hashes.json"
HOMES_NAME = "homes.json"
_SHARED_FOLDERS = ("", "configs/final", "results", "results/recipes")
"""Folders with files of no output: record, merged configurations, redirects, tables of recipes"""


@dataclass(frozen=True)
class StoredOutput:
    """An output with this receipt, and the folder in which each of its slots lies now."""

    receipt: Receipt
    folders: Mapping[str, Path]


@dataclass(frozen=True)
class OutputFile:
    """A file of an output; `folders` list it as suspect where `slicewise verify` found it changed."""

    name: str
    """Relative to `root`"""
    root: Path
    checksum: FileChecksum
    suspect: bool
    folders: tuple[Path, ...]

    @property
    def path(self) -> Path:
        return self.root / self.name

    @property
    def fault(self) -> str | None:
        return self.checksum.fault(f"{self.root}/{self.name}", read=self.suspect)


class HasHomes(Protocol):
    """A step, or what a workspace remembers of one."""

    @property
    def name(self) -> str: ...
    @property
    def homes(self) -> Mapping[str, str]: ...


class StoredStep(NamedTuple):
    """A step whose outputs a workspace may hold: slot -> folder relative to the workspace."""

    name: InsidePath
    homes: dict[InsidePath, InsidePath]


class Workspace:
    """The folder a pipeline works in.

    Attributes:
        fence: of the process that holds it; no output is moved once another process has taken over.
    """

    def __init__(self, root: Path, fence: Fence | None = None) -> None:
        self.root = root.absolute()
        self.state = self.root / STATE_DIR
        self.fence = fence

    def home(self, relative: str) -> Path:
        return self.root / relative

    def partial(self, step: str, fingerprint: str) -> Path:
        return self.state / "partial" / step / fingerprint[:16]

    def shelf(self, step: str, fingerprint: str) -> Path:
        return self.state / "shelf" / step / fingerprint[:16]

    def service(self, step: str) -> Path:
        """Return the folder in which a service keeps its state."""
        return self.state / step

    def home_receipt(self, step: HasHomes) -> Receipt | None:
        """Return the receipt of the output that is in its homes now; of a mixture, the first one."""
        receipts = (Receipt.read(self.home(relative)) for relative in step.homes.values())
        return next((receipt for receipt in receipts if receipt is not None), None)

    def find(self, step: HasHomes, fingerprint: str) -> StoredOutput | None:
        """Return an output with the folder of every slot, home or shelf; None unless all slots exist."""
        folders: dict[str, Path] = {}
        receipt: Receipt | None = None
        for slot, relative in step.homes.items():
            for folder in (self.home(relative), self.shelf(step.name, fingerprint) / slot):
                candidate = Receipt.read(folder)
                if candidate is not None and candidate.fingerprint == fingerprint:
                    receipt, folders[slot] = candidate, folder
                    break
            else:
                return None
        return StoredOutput(receipt, folders) if receipt else None

    def faults(self, output: StoredOutput) -> Iterator[str]:
        """Yield each file of an output that is missing or changed, as "path fault"."""
        for file in self.output_files(output):
            if fault := file.fault:
                yield f"{self.relative(file.path)} {fault}"

    def output_files(self, output: StoredOutput) -> Iterator[OutputFile]:
        """Yield every file of an output, shared ones last."""
        suspects: set[str] = set()
        for slot, table in output.receipt.files.items():
            folder = output.folders[slot]
            suspect = read_suspects(folder)
            suspects |= suspect
            for name, checksum in table.items():
                yield OutputFile(name, folder, checksum, name in suspect, (folder,))
        folders = tuple(output.folders.values())
        for name, checksum in output.receipt.shared.items():
            yield OutputFile(name, self.root, checksum, name in suspects, folders)

    def faulty_shared(self, step: HasHomes) -> tuple[Path, ...]:
        """Return the shared files of a step's outputs, at home or shelved, that are missing or changed."""
        faulty = (
            file.path
            for output in self.outputs(step)
            for file in self.output_files(output)
            if file.name in output.receipt.shared and file.fault
        )
        return tuple(dict.fromkeys(faulty))

    def outputs(self, step: HasHomes) -> Iterator[StoredOutput]:
        """Yield what is left of every output of a step: slots with intact receipts, at home or shelved."""
        at_home = [(slot, self.home(relative)) for slot, relative in step.homes.items()]
        remaining: dict[str, tuple[Receipt, dict[str, Path]]] = {}
        for slot, folder in [*at_home, *self._shelved_slots(step)]:
            receipt = Receipt.read(folder)
            if receipt is not None and receipt.identity.step == step.name:
                remaining.setdefault(receipt.fingerprint, (receipt, {}))[1].setdefault(slot, folder)
        for receipt, folders in remaining.values():
            files = {slot: table for slot, table in receipt.files.items() if slot in folders}
            yield StoredOutput(replace(receipt, files=files), folders)

    def _shelved_slots(self, step: HasHomes) -> list[tuple[str, Path]]:
        shelved = sorted((self.state / "shelf" / step.name).glob("*"))
        return [(slot, folder / slot) for folder in shelved for slot in step.homes]

    def unreadable(self, step: HasHomes) -> Iterator[str]:
        """Yield every damaged receipt on the shelf of a step, as "path fault"."""
        for _, folder in self._shelved_slots(step):
            if (folder / RECEIPT_NAME).exists() and Receipt.read(folder) is None:
                yield f"{self.relative(folder / RECEIPT_NAME)} is damaged"

    def mismatches(self, step: HasHomes, fingerprint: str | None = None) -> Iterator[str]:
        """Yield each home without an intact receipt of the step, or of the output with this fingerprint.

        Empty homes count only where a fingerprint is given.
        """
        for relative in step.homes.values():
            home = self.home(relative)
            receipt = Receipt.read(home)
            if is_empty(home):
                yield from [f"{relative} is missing"] if fingerprint else []
            elif receipt is None:
                state = "is damaged" if (home / RECEIPT_NAME).exists() else "is missing"
                yield f"{relative}/{RECEIPT_NAME} {state}"
            elif receipt.identity.step != step.name:
                yield f"{relative} holds an output of {receipt.identity.step}"
            elif fingerprint and receipt.fingerprint != fingerprint:
                yield f"{relative} holds another output"

    def relative(self, path: Path) -> str:
        """Return a path for messages: relative to the workspace where it lies inside."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def shelve(self, step: HasHomes, receipt: Receipt, partial: Path) -> Path:
        """Move finished work from `partial` to the shelf, and return its folder there.

        An older output of the same identity is replaced. It is set aside only after the receipts are written,
        which a full disk may refuse, and removed last: that takes a while, and a kill may come.

        Raises:
            FencedError: another process has taken over.
        """
        for slot in receipt.files:
            receipt.write(partial / slot)
        self._require_fence()
        target = self.shelf(step.name, receipt.fingerprint)
        target.parent.mkdir(parents=True, exist_ok=True)
        trashed = self._set_aside(step, receipt.fingerprint)
        partial.rename(target)
        for folder in trashed:
            shutil.rmtree(folder)
        return target

    def install(self, step: HasHomes, output: StoredOutput) -> None:
        """Move every slot of an output to its home; what is there moves to the shelf first."""
        for slot, relative in step.homes.items():
            home = self.home(relative)
            if output.folders[slot] != home:
                self._require_fence()
                self._clear_home(step.name, slot, home)
                home.parent.mkdir(parents=True, exist_ok=True)
                output.folders[slot].rename(home)

    def _require_fence(self) -> None:
        if self.fence is not None:
            self.fence.require()

    def _clear_home(self, step: str, slot: str, home: Path) -> None:
        if not home.exists():
            return
        receipt = Receipt.read(home)
        target = self.state / "foreign" / f"{int(time.time() * 1000)}" / home.name
        if receipt is not None and receipt.identity.step == step:
            target = self.shelf(step, receipt.fingerprint) / slot
            self.discard(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        home.rename(target)

    def _set_aside(self, step: HasHomes, fingerprint: str) -> list[Path]:
        """Move an output that was made again to the trash."""
        folders = [self.shelf(step.name, fingerprint)]
        for home in map(self.home, step.homes.values()):
            receipt = Receipt.read(home)
            if receipt is not None and receipt.fingerprint == fingerprint:
                folders.append(home)
        return [self._to_trash(folder) for folder in folders if folder.exists()]

    def discard(self, folder: Path) -> None:
        """Remove a folder, if it is there."""
        if folder.exists():
            shutil.rmtree(self._to_trash(folder))

    def _to_trash(self, folder: Path) -> Path:
        """Rename a folder before its removal: a kill must not leave half of it in place."""
        trashed = self.state / "trash" / f"{time.time_ns()}"
        trashed.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(trashed)
        return trashed

    def sweep(self) -> None:
        """Remove what killed runs left half written or half removed. The caller holds the lock."""
        for name in _SHARED_FOLDERS:
            sweep(self.root / name)
        sweep(self.state)
        for name in ("trash", "turns"):
            shutil.rmtree(self.state / name, ignore_errors=True)

    def load_hashes(self) -> HashCache:
        """Return the stored hashes; a damaged table is discarded, since it only saves time."""
        return HashCache(self.read_hashes() or {})

    def read_hashes(self) -> dict[str, list[Any]] | None:
        """Return the table of stored hashes, or None where it is missing or damaged."""
        # Of what a table may hold only rows of plain numbers and text are used, and there may be many.
        table: dict[str, list[Any]] | None = self._read_sealed(HASHES_NAME, "files", json.loads)
        return table

    def _read_sealed(self, name: str, key: str, parse: Callable[[bytes], Any] = parse_json) -> Any:
        """Return a table of the state folder that has its digest beside it, or None where it has not."""
        try:
            raw = parse(read_capped(self.state / name))
            return raw[key] if raw["digest"] == digest(raw[key]) else None
        except (OSError, KeyError, TypeError, ValueError, RecursionError):
            return None

    def save_hashes(self, hashes: HashCache) -> None:
        if hashes.changed:
            write_json(self.state / HASHES_NAME, {"digest": digest(hashes.table), "files": hashes.table})
            hashes.changed = False

    def stored_steps(self) -> list[StoredStep] | None:
        """Return the steps that have run here, in any pipeline; None where the list is missing or damaged."""
        try:
            steps: list[StoredStep] = from_json(list[StoredStep], self._read_sealed(HOMES_NAME, "steps"))
        except (TypeError, ValueError):
            return None
        return steps

    def remember_steps(self, steps: Iterable[HasHomes]) -> None:
        """Add steps to those that have run here: their outputs are listed and verified from now on."""
        known = self.stored_steps() or []
        new = [step for step in (StoredStep(s.name, dict(s.homes)) for s in steps) if step not in known]
        if new:
            table = [list(step) for step in (*known, *new)]
            write_json(self.state / HOMES_NAME, {"digest": digest(table), "steps": table})

    def shelved(self) -> Iterator[tuple[str, Path]]:
        """Yield (step, folder) of every output on the shelf."""
        for step_dir in sorted((self.state / "shelf").glob("*")):
            for folder in sorted(step_dir.glob("*")):
                if any((slot / RECEIPT_NAME).exists() for slot in folder.glob("*")):
                    yield step_dir.name, folder


def is_empty(folder: Path) -> bool:
    """Whether a folder is empty or missing."""
    try:
        return not any(folder.iterdir())
    except OSError:  # missing, or another run has just moved it
        return True
