"""`slicewise doctor`: will a run work here, and what to do if not."""

import argparse
import json
import shutil
import textwrap
from dataclasses import asdict

from slicewise.cli.checks import datasets, machine, software, storage
from slicewise.cli.checks.check import Check
from slicewise.cli.options import (
    add_config_options,
    add_selection_options,
    compose_from,
    selection_from,
    workspace_from,
)
from slicewise.config.schema import Config
from slicewise.core.console import paint, say
from slicewise.engine.selection import Request
from slicewise.engine.workspace import Workspace

_INDENT = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser)
    add_selection_options(parser)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def execute(args: argparse.Namespace) -> int:
    config, workspace = compose_from(args), workspace_from(args)
    selection = selection_from(args, config.split.folds)
    wants_demo = selection.requests.get("demo") in (Request.AUTO, Request.FORCE)
    checks = run_checks(workspace, config, wants_demo=wants_demo)
    bad = [check for check in checks if check.level == "bad"]
    if args.json:
        say(json.dumps({"ready": not bad, "checks": [asdict(check) for check in checks]}, indent=2))
        return 1 if bad else 0
    width = max(60, min(shutil.get_terminal_size().columns, 120))
    for check in checks:
        say(_lines(check, width))
    names = ", ".join(check.name for check in bad)
    say(f"\na run would fail: {names}" if bad else "\na run can start", "bad" if bad else "good")
    return 1 if bad else 0


def run_checks(workspace: Workspace, config: Config, *, wants_demo: bool = True) -> list[Check]:
    """Run every check for a run of this configuration in this workspace, with or without the demo."""
    from slicewise.steps.demo import ports

    return [
        software.python_version(),
        software.packages(),
        software.torch_pair(),
        software.encoder_weights(config),
        software.encoding(),
        software.tracker(config),
        machine.cores(config),
        machine.memory(config),
        machine.accelerator(config),
        storage.writable(workspace),
        storage.disk(workspace, config),
        storage.lock(workspace),
        storage.inputs(config),
        datasets.data(workspace, config),
        storage.credentials(workspace, config),
        machine.ports(config, of_our_demo=ports(workspace), wants_demo=wants_demo),
        machine.supervisor(config, wants_demo=wants_demo),
    ]


def _lines(check: Check, width: int) -> str:
    head = f"  {paint(f'{check.level:<5}', check.level)} {check.name:<11} "
    body = textwrap.wrap(check.found, width - _INDENT, break_on_hyphens=False) or [""]
    body += (
        textwrap.wrap(f"-> {check.advice}", width - _INDENT, break_on_hyphens=False) if check.advice else []
    )
    return head + ("\n" + " " * _INDENT).join(body)
