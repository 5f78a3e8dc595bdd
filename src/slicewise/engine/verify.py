"""Read every finished output again, and say what is not as it was when it was made.

A plan looks at size and time alone, which a failing disk or a copying program may leave as they were. What is
found changed here is noted in the output's folder, and every later plan reads that. Nothing is deleted.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slicewise.core.console import progress_bar
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json
from slicewise.core.hashing import HashCache, hash_file
from slicewise.engine.receipt import write_suspects
from slicewise.engine.record import RECORD_NAME
from slicewise.engine.step import Step
from slicewise.engine.workspace import HASHES_NAME, OutputFile, StoredOutput, Workspace


@dataclass(frozen=True)
class Finding:
    """A file that is damaged or missing, the step that made it, and what happens next."""

    path: str
    fault: str
    step: str | None
    remedy: str


@dataclass(frozen=True)
class Verification:
    """What was read, and what was found."""

    num_files: int
    num_bytes: int
    findings: tuple[Finding, ...]


def verify(steps: Sequence[Step[Any]], workspace: Workspace, hashes: HashCache) -> Verification:
    """Compare every output, at home and on the shelf, with its receipts. The caller holds the lock."""
    outputs = [(step, output) for step in steps for output in workspace.outputs(step.name, step.homes)]
    sizes = {file.path: _size(file.path) for _, output in outputs for file in workspace.output_files(output)}
    with progress_bar(desc="Verifying", total=sum(sizes.values()), unit="B") as bar:
        digests = {path: _digest(path, bar.update) for path in sizes}
    findings: dict[str, Finding] = {}
    for step, output in outputs:
        for finding in _compare(workspace, step, output, digests):
            findings.setdefault(finding.path, finding)
    for path, digest in digests.items():
        known = hashes.table.get(str(path.absolute()))
        if known is not None and known[3] != digest:
            hashes.forget(path)
    others = [finding for step in steps for finding in _compare_receipts(workspace, step)]
    others += [*_compare_record(steps, workspace), *_check_hash_table(workspace, hashes)]
    findings.update({finding.path: finding for finding in others})
    return Verification(len(sizes), sum(sizes.values()), tuple(findings.values()))


def _compare(
    workspace: Workspace, step: Step[Any], output: StoredOutput, digests: dict[Path, str | None]
) -> Iterator[Finding]:
    changed: dict[Path, set[str]] = {folder: set() for folder in output.folders.values()}
    at_home = any(folder == workspace.home(step.homes[slot]) for slot, folder in output.folders.items())
    for file in workspace.output_files(output):
        fault = _fault(file, digests[file.path])
        if fault:
            for folder in file.folders:
                changed[folder].add(file.name)
            yield Finding(workspace.relative(file.path), fault, step.name, _remedy(step, at_home=at_home))
    for folder, names in changed.items():
        write_suspects(folder, names)


def _fault(file: OutputFile, digest: str | None) -> str | None:
    if digest is None or digest == file.seal.sha256:
        return "is missing" if digest is None else None
    return file.fault or "was changed, its size and time stamp were not"


def _compare_receipts(workspace: Workspace, step: Step[Any]) -> Iterator[Finding]:
    receipt = workspace.at_home(step.homes)
    at_home = workspace.mismatches(step.name, step.homes, receipt.fingerprint if receipt else None)
    for is_home, faults in ((True, at_home), (False, workspace.unreadable(step.name, step.homes))):
        for text in faults:
            yield _finding(text, step, at_home=is_home)


def _finding(text: str, step: Step[Any], *, at_home: bool) -> Finding:
    path, _, fault = text.partition(" ")
    return Finding(path, fault, step.name, _remedy(step, at_home=at_home))


def _remedy(step: Step[Any], *, at_home: bool) -> str:
    time_of_rerun = "by the next run" if at_home else "when its settings are asked for"
    return f"{step.name} is made again {time_of_rerun}"


def _compare_record(steps: Sequence[Step[Any]], workspace: Workspace) -> Iterator[Finding]:
    """Yield what the record of the last run lists and no receipt speaks of any more."""
    try:
        steps_on_record = read_json(workspace.root / RECORD_NAME)["steps"]
        has_files = {name: bool(step["artifacts"]) for name, step in steps_on_record.items()}
    except FileNotFoundError:
        return
    except (WorkspaceError, KeyError, TypeError, AttributeError):
        yield Finding(RECORD_NAME, "is damaged", None, "the next run writes it anew")
        return
    for step in steps:
        if has_files.get(step.name) and workspace.at_home(step.homes) is None:
            for home in step.homes.values():
                if not workspace.home(home).exists():
                    yield _finding(f"{home} is missing", step, at_home=True)


def _check_hash_table(workspace: Workspace, hashes: HashCache) -> Iterator[Finding]:
    path = workspace.state / HASHES_NAME
    if path.exists() and workspace.read_hashes() is None:
        hashes.changed = True  # so that the next save replaces it
        yield Finding(workspace.relative(path), "is damaged", None, "it was forgotten; it only saves time")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _digest(path: Path, advance: Callable[[int], object]) -> str | None:
    try:
        return hash_file(path, advance)
    except OSError:
        return None
