"""`slicewise verify`: read every finished output again and compare it with what was made."""

import argparse
import json
import time
from contextlib import suppress
from dataclasses import asdict

from slicewise.cli.options import add_wait_option, add_workspace_option, workspace_from
from slicewise.core.console import paint, say
from slicewise.core.storage import MIB
from slicewise.pipeline.lock import exclusive
from slicewise.pipeline.progress import published
from slicewise.pipeline.verify import Verification, verify


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace_option(parser)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    add_wait_option(parser)


def execute(args: argparse.Namespace) -> int:
    from slicewise.steps import steps_of

    workspace = workspace_from(args)
    started = time.monotonic()
    if not workspace.state.is_dir():
        found = Verification(0, 0, ())
    else:
        lock = exclusive(workspace.state / "lock", args.wait)
        with lock, published(workspace.state, "slicewise verify"):
            hashes = workspace.load_hashes()
            found = verify(steps_of(workspace), workspace, hashes)
            with suppress(OSError):  # they only save time, and must not hide what was found
                workspace.save_hashes(hashes)
    if args.json:
        say(json.dumps({"sound": not found.findings, **asdict(found)}, indent=2))
    else:
        _show(found, time.monotonic() - started)
    return 1 if found.findings else 0


def _show(found: Verification, seconds: float) -> None:
    for finding in found.findings:
        say(f"{paint(finding.path, 'bad')} {finding.fault}")
        say(f"  {finding.remedy}", "dim")
    read = f"read {found.num_files} files, {found.num_bytes / MIB:,.1f} MiB, in {seconds:.1f} s"
    if found.findings:
        say(f"{read}: {len(found.findings)} damaged or missing; `slicewise plan` says what will run", "warn")
    elif not found.num_files:
        say("nothing was made here yet")
    else:
        say(f"{read}: all are as they were made", "good")
