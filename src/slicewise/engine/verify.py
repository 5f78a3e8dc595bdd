"""Read every finished output again, and report what differs from its receipt.

A plan compares size and time alone, which a failing disk or a copying program may leave unchanged. Changed
files are listed in the output's folder, and every later plan reads them. Nothing is deleted.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from slicewise.core.console import progress_bar
from slicewise.core.errors import WorkspaceError
from slicewise.core.files import read_json
from slicewise.core.hashing import HashCache, hash_file
from slicewise.engine.receipt import write_suspects
from slicewise.engine.record import RECORD_NAME
from slicewise.engine.workspace import HASHES_NAME, HOMES_NAME, HasHomes, StoredOutput, Workspace


@dataclass(frozen=True)
class Finding:
    """A file that is damaged or missing, the step that made it, and what happens next."""

    path: str
    fault: str
    step: str | None
    remedy: str


@dataclass(frozen=True)
class Verification:
    """How much was read, and what is damaged or missing."""

    num_files: int
    num_bytes: int
    findings: tuple[Finding, ...]


def verify(steps: Sequence[HasHomes], workspace: Workspace, hashes: HashCache) -> Verification:
    """Compare every output, at home and on the shelf, with its receipts. The caller holds the lock."""
    outputs = [(step, output) for step in steps for output in workspace.outputs(step)]
    paths = {file.path for _, output in outputs for file in workspace.output_files(output)}
    sizes = {path: path.stat().st_size if path.is_file() else 0 for path in sorted(paths)}
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
    others += _compare_record(steps, workspace)
    for name, content, remedy in (
        (HOMES_NAME, workspace.stored_steps(), "the next run writes a new one"),
        (HASHES_NAME, workspace.read_hashes(), "it was discarded; it only saves time"),
    ):
        path = workspace.state / name
        if path.exists() and content is None:
            others.append(Finding(workspace.relative(path), "is damaged", None, remedy))
            hashes.changed |= name == HASHES_NAME  # so that the next save replaces it
    findings.update({finding.path: finding for finding in others})
    return Verification(len(sizes), sum(sizes.values()), tuple(findings.values()))


def _compare(
    workspace: Workspace, step: HasHomes, output: StoredOutput, digests: dict[Path, str | None]
) -> Iterator[Finding]:
    """Yield the files of an output whose content differs, and list them in its folders."""
    changed: dict[Path, set[str]] = {folder: set() for folder in output.folders.values()}
    at_home = any(folder == workspace.home(step.homes[slot]) for slot, folder in output.folders.items())
    for file in workspace.output_files(output):
        digest = digests[file.path]
        if digest == file.checksum.sha256:
            continue
        fault = "is missing" if digest is None else file.fault
        fault = fault or "was changed, its size and time stamp were not"
        for folder in file.folders:
            changed[folder].add(file.name)
        yield _finding(f"{workspace.relative(file.path)} {fault}", step, at_home=at_home)
    for folder, names in changed.items():
        write_suspects(folder, names)


def _compare_receipts(workspace: Workspace, step: HasHomes) -> Iterator[Finding]:
    receipt = workspace.home_receipt(step)
    mismatches = workspace.mismatches(step, receipt.fingerprint if receipt else None)
    for at_home, faults in ((True, mismatches), (False, workspace.unreadable(step))):
        for text in faults:
            yield _finding(text, step, at_home=at_home)


def _finding(text: str, step: HasHomes, *, at_home: bool) -> Finding:
    path, _, fault = text.partition(" ")
    time_of_rerun = "by the next run" if at_home else "when a run has its settings"
    return Finding(path, fault, step.name, f"{step.name} is made again {time_of_rerun}")


def _compare_record(steps: Sequence[HasHomes], workspace: Workspace) -> Iterator[Finding]:
    """Yield the homes that the record of the last run lists and that no longer exist."""
    try:
        records = read_json(workspace.root / RECORD_NAME)["steps"]
        has_files = {name: bool(step["artifacts"]) for name, step in records.items()}
    except FileNotFoundError:
        return
    except (WorkspaceError, KeyError, TypeError, AttributeError):
        yield Finding(RECORD_NAME, "is damaged", None, "the next run writes a new one")
        return
    for step in steps:
        if has_files.get(step.name) and workspace.home_receipt(step) is None:
            for home in step.homes.values():
                if not workspace.home(home).exists():
                    yield _finding(f"{home} is missing", step, at_home=True)


def _digest(path: Path, advance: Callable[[int], object]) -> str | None:
    try:
        return hash_file(path, advance)
    except OSError:
        return None
