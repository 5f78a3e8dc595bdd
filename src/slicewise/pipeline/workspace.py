"""Where outputs live.

    <root>/checkpoints/..., results/..., data/...   homes: the finished output of today's settings
    <root>/.slicewise/shelf/<step>/<fingerprint>/   finished outputs of other settings
    <root>/.slicewise/partial/<step>/<fingerprint>/ work in progress

An output enters the shelf by one rename, complete and with its receipt, and moves to its home by another.
A kill between two renames leaves every piece whole in one of the two places, and `find` looks in both.
"""

import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json, sweep, write_json
from slicewise.core.fingerprint import HashCache
from slicewise.pipeline.receipt import RECEIPT_NAME, Receipt

STATE_DIR = ".slicewise"


@dataclass(frozen=True)
class Found:
    """An output with this receipt, and the folder in which each of its slots lies now."""

    receipt: Receipt
    folders: Mapping[str, Path]


class Workspace:
    """The folder a pipeline works in."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.state = self.root / STATE_DIR

    def home(self, relative: str) -> Path:
        return self.root / relative

    def partial(self, step: str, fingerprint: str) -> Path:
        return self.state / "partial" / step / fingerprint[:16]

    def shelf(self, step: str, fingerprint: str) -> Path:
        return self.state / "shelf" / step / fingerprint[:16]

    def service(self, step: str) -> Path:
        """Return the folder in which a service keeps its state."""
        return self.state / step

    def at_home(self, homes: Mapping[str, str]) -> Receipt | None:
        """Return the receipt of what is at home now; of a mixture, the first one found."""
        receipts = (Receipt.read(self.home(relative)) for relative in homes.values())
        return next((receipt for receipt in receipts if receipt is not None), None)

    def find(self, step: str, homes: Mapping[str, str], fingerprint: str) -> Found | None:
        """Locate every slot of an output, at home or on the shelf; None unless all are there."""
        folders: dict[str, Path] = {}
        receipt: Receipt | None = None
        for slot, relative in homes.items():
            for folder in (self.home(relative), self.shelf(step, fingerprint) / slot):
                candidate = Receipt.read(folder)
                if candidate is not None and candidate.fingerprint == fingerprint:
                    receipt, folders[slot] = candidate, folder
                    break
            else:
                return None
        return Found(receipt, folders) if receipt else None

    def faults(self, found: Found) -> Iterator[str]:
        """Name each file of an output that is missing or not as it was sealed."""
        for slot, table in found.receipt.files.items():
            for name, seal in table.items():
                yield from self._fault(found.folders[slot] / name, seal.fault(found.folders[slot] / name))
        for name, seal in found.receipt.shared.items():
            yield from self._fault(self.root / name, seal.fault(self.root / name))

    def _fault(self, path: Path, fault: str | None) -> Iterator[str]:
        if fault:
            yield f"{self.relative(path)} {fault}"

    def relative(self, path: Path) -> str:
        """Return a path as people type it: relative to the workspace where it lies inside."""
        return path.relative_to(self.root).as_posix() if path.is_relative_to(self.root) else str(path)

    def seal(self, step: str, receipt: Receipt, partial: Path) -> None:
        """Move finished work from `partial` to the shelf; an older output of the same identity goes."""
        for slot in receipt.files:
            receipt.write(partial / slot)
        target = self.shelf(step, receipt.fingerprint)
        self._discard(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial.rename(target)

    def bring_home(self, step: str, homes: Mapping[str, str], found: Found) -> None:
        """Move every slot of an output to its home; what is there goes to the shelf first."""
        for slot, relative in homes.items():
            home = self.home(relative)
            if found.folders[slot] == home:
                continue
            self._put_away(step, slot, home)
            home.parent.mkdir(parents=True, exist_ok=True)
            found.folders[slot].rename(home)

    def _put_away(self, step: str, slot: str, home: Path) -> None:
        if not home.exists():
            return
        receipt = Receipt.read(home)
        target = self.state / "foreign" / f"{int(time.time() * 1000)}" / home.name
        if receipt is not None:
            target = self.shelf(step, receipt.fingerprint) / slot
            self._discard(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        home.rename(target)

    def drop(self, step: str, homes: Mapping[str, str], fingerprint: str) -> None:
        """Remove an output that is damaged or will be made again, so that nothing can mistake it."""
        for relative in homes.values():
            receipt = Receipt.read(self.home(relative))
            if receipt is not None and receipt.fingerprint == fingerprint:
                self._discard(self.home(relative))
        self._discard(self.shelf(step, fingerprint))

    def _discard(self, folder: Path) -> None:
        if not folder.exists():
            return
        # Renamed first: a kill in the middle of a removal must not leave half an output under its name.
        doomed = self.state / "trash" / f"{time.time_ns()}"
        doomed.parent.mkdir(parents=True, exist_ok=True)
        folder.rename(doomed)
        shutil.rmtree(doomed)

    def sweep(self) -> None:
        """Remove what killed runs left half written or half removed. Only by the holder of the lock."""
        for folder in (self.root, self.state, self.root / "configs" / "final"):
            sweep(folder)
        shutil.rmtree(self.state / "trash", ignore_errors=True)

    def load_hashes(self) -> HashCache:
        """Return the remembered hashes; a damaged table is forgotten, since it only saves time."""
        try:
            table = read_json(self.state / "hashes.json")
        except (OSError, WorkspaceError):
            table = {}
        return HashCache(table if isinstance(table, dict) else {})

    def save_hashes(self, hashes: HashCache) -> None:
        if hashes.changed:
            write_json(self.state / "hashes.json", hashes.table)
            hashes.changed = False

    def shelved(self) -> Iterator[tuple[str, Path]]:
        """Yield (step, folder) of every output on the shelf."""
        for step_dir in sorted((self.state / "shelf").glob("*")):
            for folder in sorted(step_dir.iterdir()):
                if any(folder.rglob(RECEIPT_NAME)):
                    yield step_dir.name, folder

    def clean(self) -> int:
        """Empty the shelf, partial work and trash; return the bytes freed. Homes stay."""
        freed = 0
        for name in ("shelf", "partial", "trash", "foreign"):
            folder = self.state / name
            freed += sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            shutil.rmtree(folder, ignore_errors=True)
        return freed
