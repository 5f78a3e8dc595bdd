"""`slicewise doctor`: whether a run can work here, and what to do if not."""

import argparse
import json
import shutil
import textwrap
from typing import TYPE_CHECKING

from slicewise.cli import options
from slicewise.core.console import paint, say
from slicewise.engine.plan import Request
from slicewise.steps.demo import ports

if TYPE_CHECKING:
    from slicewise.cli.checks import Check

_INDENT = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_config_options(parser)
    options.add_selection_options(parser)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def execute(args: argparse.Namespace) -> int:
    checks = _run_checks(args)
    bad = [name for name, check in checks.items() if check.level == "bad"]
    if args.json:
        found = [{"name": name, **check._asdict()} for name, check in checks.items()]
        say(json.dumps({"ready": not bad, "checks": found}, indent=2))
        return 1 if bad else 0
    width = max(60, min(shutil.get_terminal_size().columns, 120)) - _INDENT
    for name, check in checks.items():
        lines = textwrap.wrap(check.found, width, break_on_hyphens=False) or [""]
        if check.advice:
            lines += textwrap.wrap(f"-> {check.advice}", width, break_on_hyphens=False)
        head = f"  {paint(f'{check.level:<5}', check.level)} {name:<11} "
        say(head + ("\n" + " " * _INDENT).join(lines))
    say(f"\na run would fail: {', '.join(bad)}" if bad else "\na run can start", "bad" if bad else "good")
    return 1 if bad else 0


def _run_checks(args: argparse.Namespace) -> "dict[str, Check]":
    """Return the results by name: those of the machine, and those of the configuration."""
    config, workspace = options.compose_from(args), options.workspace_from(args)
    request = options.selection_from(args, config).requests.get("demo")
    wants_demo = request in (Request.AUTO, Request.FORCE)

    from slicewise.cli.checks import inputs, machine  # they import torch

    return {
        "python": machine.python_version(),
        "packages": machine.packages(),
        "torch": machine.torch_pair(),
        "weights": inputs.encoder_weights(config),
        "encoding": machine.encoding(),
        "tracking": inputs.tracking(workspace, config),
        "cores": machine.cores(config),
        "memory": machine.memory(config),
        "device": machine.accelerator(config),
        "workspace": machine.writable(workspace),
        "disk": machine.disk(workspace, config),
        "lock": machine.lock(workspace),
        "inputs": inputs.named_files(config),
        "data": inputs.data(workspace, config),
        "kaggle": inputs.credentials(workspace, config),
        "ports": machine.ports(config, of_our_demo=ports(workspace), wants_demo=wants_demo),
        "supervisor": machine.supervisor(config, wants_demo=wants_demo),
    }
