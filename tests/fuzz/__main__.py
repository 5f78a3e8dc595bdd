"""Search for hostile inputs, guided by coverage: `python -m tests.fuzz [--seconds N] [TARGET ...]`.

Each target runs in a process of its own with bounded memory and a bounded time for each input. Prints a table
and writes `fuzz.json`; the exit code is 1 if there are findings.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
_PROGRESS = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")
_TRIED = re.compile(r"stat::number_of_executed_units: (\d+)|^#(\d+)\s", re.MULTILINE)
_DONE = re.compile(r"Done \d+ runs in (\d+) second")
_SHORTEST_SECONDS = 2


@dataclass
class Row:
    """The search of one target. `new_paths`: inputs kept because they reached new code."""

    target: str
    seconds: int
    inputs: int = 0
    coverage: int = 0
    new_paths: int = 0
    findings: int = 0


def search(name: str, seconds: int, patience: int, mib: int, keep: Path) -> Row:
    """Run one target for `seconds`; an input that ends its process is a finding, and the search restarts."""
    folder = Path(tempfile.mkdtemp(prefix=f"slicewise-fuzz-{name}-"))
    for part in ("corpus", "findings"):
        (folder / part).mkdir()
    row = Row(name, seconds)
    left = seconds
    while left >= _SHORTEST_SECONDS:
        words = [
            sys.executable,
            "-m",
            "tests.fuzz.child",
            name,
            str(left),
            str(patience),
            str(mib),
            str(folder),
        ]
        done = subprocess.run(words, capture_output=True, cwd=ROOT, check=False)
        output = done.stderr.decode(errors="replace")
        left -= _searched(output, left)
        _count(row, output)
        if done.returncode != 0 and not _PROGRESS.search(output):
            raise SystemExit(f"{name} did not start:\n{output[-2000:]}")
    row.new_paths = max(0, len(list((folder / "corpus").iterdir())) - len(TARGETS[name].seeds()))
    row.findings = _keep_findings(folder, keep / name)
    shutil.rmtree(folder, ignore_errors=True)
    return row


def _searched(output: str, at_most: int) -> int:
    """Return the seconds that a process searched without its start-up; at least 1."""
    done = _DONE.search(output)
    return max(1, int(done[1])) if done else at_most


def _count(row: Row, output: str) -> None:
    units = [int(total or step) for total, step in _TRIED.findall(output)]
    progress = _PROGRESS.findall(output)
    row.inputs += max(units, default=0)
    row.coverage = max([row.coverage, *(int(coverage) for coverage, _, _ in progress)])


def _keep_findings(folder: Path, target: Path) -> int:
    findings = sorted((folder / "findings").iterdir())
    if findings:
        target.mkdir(parents=True, exist_ok=True)
    for path in findings:
        shutil.copy(path, target / path.name)
    return len(findings)


def table(rows: Sequence[Row]) -> str:
    """Return the rows as text."""
    head = f"{'target':<18} {'seconds':>8} {'inputs':>9} {'coverage':>9} {'new paths':>10} {'findings':>9}"
    lines = [
        f"{row.target:<18} {row.seconds:>8} {row.inputs:>9,} {row.coverage:>9,} {row.new_paths:>10,} "
        f"{row.findings:>9}"
        for row in rows
    ]
    return "\n".join([head, *lines])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the chosen targets, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    parser.add_argument("--patience", type=int, default=20, help="seconds for one input (default: 20)")
    parser.add_argument("--memory-mib", type=int, default=4096, help="beyond the imports (default: 4096)")
    parser.add_argument(
        "--out", type=Path, default=Path("build/fuzz"), help="folder of findings and fuzz.json"
    )
    args = parser.parse_args(argv)
    unknown = [name for name in args.targets if name not in TARGETS]
    if unknown:
        parser.error(f"there is no target {unknown[0]}; there are {', '.join(TARGETS)}")
    if find_spec("atheris") is None:
        parser.error("atheris is not installed; `make fuzz` installs it (extra `fuzz`)")
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in args.targets or TARGETS:
        rows.append(search(name, args.seconds, args.patience, args.memory_mib, args.out / "findings"))
        shown = table(rows) if len(rows) == 1 else table(rows).splitlines()[-1]
        sys.stdout.write(shown + "\n")
        sys.stdout.flush()
    (args.out / "fuzz.json").write_text(
        json.dumps([asdict(row) for row in rows], indent=2) + "\n", encoding="utf-8"
    )
    return int(any(row.findings for row in rows))


if __name__ == "__main__":
    sys.exit(main())
