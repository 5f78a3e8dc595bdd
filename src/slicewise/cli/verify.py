"""`slicewise verify`: read every finished output again and compare it with what was made."""

import argparse
import json
import time
from contextlib import suppress
from dataclasses import asdict

from slicewise.cli.options import add_wait_option, add_workspace_option, workspace_from
from slicewise.core.console import paint, say
from slicewise.core.disk import MIB
from slicewise.engine.lock import exclusive_lock
from slicewise.engine.progress import publish_progress
from slicewise.engine.verify import Verification, verify


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace_option(parser)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    add_wait_option(parser)


def execute(args: argparse.Namespace) -> int:
    from slicewise.steps import stored_steps

    workspace = workspace_from(args)
    started = time.monotonic()
    if not workspace.state.is_dir():
        verification = Verification(0, 0, ())
    else:
        lock = exclusive_lock(workspace.state / "lock", args.wait)
        with lock, publish_progress(workspace.state, "slicewise verify"):
            hashes = workspace.load_hashes()
            verification = verify(stored_steps(workspace), workspace, hashes)
            with suppress(OSError):  # they only save time, and must not hide what was found
                workspace.save_hashes(hashes)
    if args.json:
        say(json.dumps({"sound": not verification.findings, **asdict(verification)}, indent=2))
    else:
        _show(verification, time.monotonic() - started)
    return 1 if verification.findings else 0


def _show(verification: Verification, seconds: float) -> None:
    for finding in verification.findings:
        say(f"{paint(finding.path, 'bad')} {finding.fault}")
        say(f"  {finding.remedy}", "dim")
    read = f"read {verification.num_files} files, {verification.num_bytes / MIB:,.1f} MiB, in {seconds:.1f} s"
    if verification.findings:
        say(
            f"{read}: {len(verification.findings)} damaged or missing; `slicewise plan` says what will run",
            "warn",
        )
    elif not verification.num_files:
        say("nothing was made here yet")
    else:
        say(f"{read}: all are as they were made", "good")
