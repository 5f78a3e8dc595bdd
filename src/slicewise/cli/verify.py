"""`slicewise verify`: read every finished output again and compare it with its receipt."""

import argparse
import json
import time
from contextlib import suppress
from dataclasses import asdict

from slicewise.cli.options import add_wait_option, add_workspace_option, workspace_from
from slicewise.core.activity import publish_progress
from slicewise.core.console import paint, say
from slicewise.core.disk import MIB
from slicewise.engine.lock import exclusive_lock
from slicewise.engine.verify import Verification, verify
from slicewise.steps import stored_steps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_workspace_option(parser)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    add_wait_option(parser)


def execute(args: argparse.Namespace) -> int:
    workspace = workspace_from(args)
    started = time.monotonic()
    if not workspace.state.is_dir():
        verification = Verification(0, 0, ())
    else:
        lock = exclusive_lock(workspace.state / "lock", args.wait)
        with lock, publish_progress(workspace.state, "slicewise verify"):
            hashes = workspace.load_hashes()
            verification = verify(stored_steps(workspace), workspace, hashes)
            with suppress(OSError):  # they only save time, and must not hide the findings
                workspace.save_hashes(hashes)
    damaged = len(verification.findings)
    if args.json:
        say(json.dumps({"sound": not damaged, **asdict(verification)}, indent=2))
        return 1 if damaged else 0
    for finding in verification.findings:
        say(f"{paint(finding.path, 'bad')} {finding.fault}")
        say(f"  {finding.remedy}", "dim")
    seconds, size = time.monotonic() - started, verification.num_bytes / MIB
    read = f"read {verification.num_files} files, {size:,.1f} MiB, in {seconds:.1f} s"
    if damaged:
        say(f"{read}: {damaged} damaged or missing; `slicewise plan` shows what will run", "warn")
    elif verification.num_files:
        say(f"{read}: all are as they were made", "good")
    else:
        say("there are no outputs here yet")
    return 1 if damaged else 0
