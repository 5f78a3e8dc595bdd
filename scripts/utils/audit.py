#!/usr/bin/env python3
"""Check every locked version against the advisory database of PyPI: `make audit`.

Exit code 0: no known vulnerability; 1: a version is vulnerable; 3: not all could be checked.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("audit", "bench", "brats", "docs", "fuzz", "snakemake", "tracking", "uv")
"""Together they include every other lock."""
CLEAN, VULNERABLE, UNREACHED = 0, 1, 3


def query_advisories(lock: str) -> list[dict[str, Any]] | None:
    """Return pip-audit's report on each package of a lock, or None where it failed."""
    tool = Path(sys.executable).with_name("pip-audit")
    path = ROOT / "requirements" / f"{lock}.lock"
    command: list[str | Path] = [
        tool,
        "--disable-pip",
        "--require-hashes",
        "--format=json",
        "--progress-spinner=off",
        "-r",
        path,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        dependencies: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        sys.stderr.write(done.stderr[-500:])
        return None
    return dependencies


def summarize(packages: Iterable[Mapping[str, Any]], unreached: Sequence[str] = ()) -> tuple[int, str]:
    """Return the exit code and its message. Packages that the database does not know are not checked.

    If a lock could not be checked the result is not clean; known vulnerabilities are reported anyway.
    """
    known = {package["name"]: package for package in packages if "skip_reason" not in package}
    faults = [
        f"{name} {package['version']}: {vulnerability['id']}, "
        f"fixed in {', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for name, package in sorted(known.items())
        for vulnerability in package["vulns"]
    ]
    if faults:
        return VULNERABLE, "\n".join([*faults, "raise these with `make constraints`"])
    if not known:
        return (
            UNREACHED,
            "the advisory database cannot be reached: nothing was checked; run again online",
        )
    if unreached:
        return UNREACHED, f"{' and '.join(unreached)} not checked, so the result is not clean; run again"
    return CLEAN, f"{len(known)} packages, no known vulnerability"


def main() -> int:
    """Check every lock and print the result."""
    reports = {lock: query_advisories(lock) for lock in LOCKS}
    packages = [package for report in reports.values() for package in report or ()]
    unreached = [lock for lock, report in reports.items() if report is None]
    if unreached:
        print(f"could not be checked: {', '.join(unreached)}")
    code, message = summarize(packages, unreached)
    print(message)
    queried = {package["name"] for package in packages}
    skipped = {package["name"] for package in packages if "skip_reason" in package}
    if code != UNREACHED and skipped:
        print(f"not checked, {len(skipped)} of {len(queried)}: {', '.join(sorted(skipped))}")
    return code


if __name__ == "__main__":
    sys.exit(main())
