#!/usr/bin/env python3
"""Ask the advisory database of PyPI about every locked version: `make audit`.

Ends with 0 where nothing is known, 1 where a version is vulnerable, 3 where not all could be asked about.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ("audit", "bench", "fuzz", "tracking", "uv")
"""Between them they name every other lock."""
CLEAN, VULNERABLE, UNREACHED = 0, 1, 3


def ask(lock: str) -> list[dict[str, Any]] | None:
    """Return what pip-audit says of each package of a lock, or None where it got no answer."""
    tool = Path(sys.executable).with_name("pip-audit")
    path = ROOT / "requirements" / f"{lock}.lock"
    words: list[str | Path] = [
        tool,
        "--disable-pip",
        "--require-hashes",
        "--format=json",
        "--progress-spinner=off",
        "-r",
        path,
    ]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        dependencies: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        sys.stderr.write(done.stderr[-500:])
        return None
    return dependencies


def summarize(packages: Iterable[Mapping[str, Any]], unreached: Sequence[str] = ()) -> tuple[int, str]:
    """Return the exit code and the words for it. A package that the database does not know is not judged.

    Without an answer on each lock nothing is called clean; a known vulnerability is told all the same.
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
            "the advisory database cannot be reached from here: nothing was judged; ask again online",
        )
    if unreached:
        return UNREACHED, f"{' and '.join(unreached)} not judged, so nothing is called clean; ask again"
    return CLEAN, f"{len(known)} packages, no known vulnerability"


def main() -> int:
    """Ask about every lock and print the verdict."""
    reports = {lock: ask(lock) for lock in LOCKS}
    packages = [package for report in reports.values() for package in report or ()]
    unreached = [lock for lock, report in reports.items() if report is None]
    if unreached:
        print(f"no answer on: {', '.join(unreached)}")
    code, words = summarize(packages, unreached)
    print(words)
    queried = {package["name"] for package in packages}
    skipped = {package["name"] for package in packages if "skip_reason" in package}
    if code != UNREACHED and skipped:
        print(f"not judged, {len(skipped)} of {len(queried)}: {', '.join(sorted(skipped))}")
    return code


if __name__ == "__main__":
    sys.exit(main())
