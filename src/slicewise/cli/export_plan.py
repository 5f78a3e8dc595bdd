"""`slicewise export-plan --to snakemake`: the steps as rules, each one `slicewise run` of that step alone.

The rules read one file with every key, so that what the scheduler runs is what was exported. Receipts stay
with `slicewise run`: a rule whose output is up to date ends at once.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from slicewise.cli import options
from slicewise.cli.plan import build_steps
from slicewise.config.export import to_yaml
from slicewise.config.schema import Config
from slicewise.config.schema.base import plain
from slicewise.core.console import say
from slicewise.core.disk import expand_user
from slicewise.core.errors import UsageError
from slicewise.core.files import write_text
from slicewise.engine.plan import Request
from slicewise.engine.step import Step

_SETTINGS: Final = "settings.yaml"
_HEAD: Final = """\
# Made by: {command}
# Run with: snakemake --snakefile {snakefile} --cores 1
# Each rule runs one step from {settings}, which holds every key. One command works in a workspace at a
# time: a rule waits for the others. Receipts decide what is up to date.
SLICEWISE = config.get("slicewise", {program})
SETTINGS = {settings_path}
WORKSPACE = {workspace}
DONE = {done}


workdir: {folder}


rule all:
    input:
        {targets},
"""
_RULE: Final = """

rule {rule}:
    input:
        SETTINGS,{inputs}
    output:
        touch(DONE + "/{step}"),
    shell:
        "{{SLICEWISE}} run --config {{SETTINGS:q}} --workspace {{WORKSPACE:q}} --no-input --wait "
        "--only {step}"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    text = "the scheduler: snakemake"
    parser.add_argument("--to", required=True, choices=("snakemake",), help=text)
    text = f"folder of the rules and of {_SETTINGS} (default: plan/ in the workspace)"
    parser.add_argument("--output", type=Path, metavar="DIR", help=text)
    options.add_config_options(parser)
    options.add_selection_options(parser)


def execute(args: argparse.Namespace) -> int:
    config, workspace = options.compose_from(args), options.workspace_from(args)
    options.refuse_together(args, "--to", ("--force", "--skip"), "writes rules that run what is out of date")
    if config.training.minutes:
        raise UsageError("--minutes plans one run from its start; leave it out, or set stages.STAGE.epochs")
    steps, selection = build_steps(config, workspace), options.selection_from(args, config)
    chosen = [
        step for step in steps if step.homes and selection.of(step.name) in (Request.AUTO, Request.FORCE)
    ]
    if not chosen:
        raise UsageError(f"{selection.scope}: no step with an output is left; leave one of these options out")
    folder = (expand_user(args.output) if args.output else workspace.home("plan")).absolute()
    head = f"# Every key of `{options.command_line(args)}`; the rules in Snakefile run these settings\n"
    write_text(folder / _SETTINGS, head + to_yaml(plain(config)))
    write_text(folder / "Snakefile", _snakefile(args, chosen, folder, workspace.root))
    say(f"{folder / 'Snakefile'}: {len(chosen)} rules, settings in {_SETTINGS}", "good")
    say(f"  snakemake --snakefile {folder / 'Snakefile'} --cores 1", "dim")
    return 0


def _snakefile(args: argparse.Namespace, steps: Sequence[Step[Config]], folder: Path, root: Path) -> str:
    names = [step.name for step in steps]
    head = _HEAD.format(
        command=_one_line(options.command_line(args)),
        snakefile=_one_line(folder / "Snakefile"),
        settings=_SETTINGS,
        program=_quoted(f"{shlex.quote(sys.executable)} -m slicewise"),
        settings_path=_quoted(folder / _SETTINGS),
        workspace=_quoted(root),
        done=_quoted(folder / "done"),
        folder=_quoted(Path.cwd()),
        targets=",\n        ".join(f'DONE + "/{name}"' for name in _last(steps)),
    )
    rules = (
        _RULE.format(
            rule=step.name.replace(".", "_").replace("-", "_"),
            step=step.name,
            inputs="".join(f'\n        DONE + "/{need}",' for need in step.needs if need in names),
        )
        for step in steps
    )
    return head + "".join(rules)


def _last(steps: Sequence[Step[Config]]) -> list[str]:
    """Return the steps that no other one needs."""
    needed = {need for step in steps for need in step.needs}
    return [step.name for step in steps if step.name not in needed]


def _quoted(value: Any) -> str:
    """Return text as a literal of Python."""
    return json.dumps(str(value))


def _one_line(value: Any) -> str:
    return " ".join(str(value).splitlines())
