"""`slicewise doctor`: whether a run can work here, and what to do if not."""

import argparse
import json
import shutil
import textwrap
from dataclasses import asdict

from slicewise.cli.checks import datasets, machine, services, software, storage
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
from slicewise.steps.demo import ports

_INDENT = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser)
    add_selection_options(parser)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def execute(args: argparse.Namespace) -> int:
    config, workspace = compose_from(args), workspace_from(args)
    selection = selection_from(args, config)
    wants_demo = selection.requests.get("demo") in (Request.AUTO, Request.FORCE)
    checks = run_checks(workspace, config, wants_demo=wants_demo)
    bad = [check for check in checks if check.level == "bad"]
    if args.json:
        say(json.dumps({"ready": not bad, "checks": [asdict(check) for check in checks]}, indent=2))
        return 1 if bad else 0
    width = max(60, min(shutil.get_terminal_size().columns, 120)) - _INDENT
    for check in checks:
        lines = textwrap.wrap(check.found, width, break_on_hyphens=False) or [""]
        if check.advice:
            lines += textwrap.wrap(f"-> {check.advice}", width, break_on_hyphens=False)
        head = f"  {paint(f'{check.level:<5}', check.level)} {check.name:<11} "
        say(head + ("\n" + " " * _INDENT).join(lines))
    names = ", ".join(check.name for check in bad)
    say(f"\na run would fail: {names}" if bad else "\na run can start", "bad" if bad else "good")
    return 1 if bad else 0


def run_checks(workspace: Workspace, config: Config, *, wants_demo: bool = True) -> list[Check]:
    """Return the checks for a run of this configuration in this workspace, with or without the demo."""
    return [
        software.python_version(),
        software.packages(),
        software.torch_pair(),
        software.encoder_weights(config),
        software.encoding(),
        software.tracking(workspace, config),
        machine.cores(config),
        machine.memory(config),
        machine.accelerator(config),
        storage.writable(workspace),
        storage.disk(workspace, config),
        storage.lock(workspace),
        datasets.inputs(config),
        datasets.data(workspace, config),
        datasets.credentials(workspace, config),
        services.ports(config, of_our_demo=ports(workspace), wants_demo=wants_demo),
        services.supervisor(config, wants_demo=wants_demo),
    ]
