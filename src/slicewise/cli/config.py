"""`slicewise config`: the merged configuration, or what one mode changes against another."""

import argparse
import json
import os

from slicewise.cli.options import (
    TRAINING_MODES,
    add_config_options,
    compose_from,
    is_typed,
    overrides_of,
    refuse_together,
    workspace_from,
)
from slicewise.core.console import paint, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser)
    modes, diff_help = ("MODE", "MODE"), "keys in which two modes differ"
    parser.add_argument("--diff", nargs=2, choices=TRAINING_MODES, metavar=modes, help=diff_help)
    parser.add_argument("--write", action="store_true", help="write the nine merged files to configs/final")


def execute(args: argparse.Namespace) -> int:
    from slicewise.config.compose import compose
    from slicewise.config.export import compare_configs, to_yaml, write_merged
    from slicewise.config.layers import find_configs_dir

    refuse_together(
        args, "--diff", ("--training-mode", "--write", "--workspace"), "only prints how two modes differ"
    )
    refuse_together(args, "--write", ("--training-mode",), "writes the files of every mode")
    if args.diff:
        left, right = (compose([f"modes={mode}", *overrides_of(args)]) for mode in args.diff)
        for key, values in compare_configs(left, right).items():
            # As overrides have them: null and true, not None and True.
            old, new = (value if isinstance(value, str) else json.dumps(value) for value in values)
            say(f"{key}: {old} -> {paint(new, 'header')}")
    elif args.write:
        # Into the workspace if one is named, else beside their sources.
        has_workspace = is_typed(args, "--workspace") or "SLICEWISE_WORKSPACE" in os.environ
        base = workspace_from(args).root / "configs" if has_workspace else find_configs_dir()
        merged = write_merged(base / "final", lambda mode: compose([f"modes={mode}", *overrides_of(args)]))
        say("\n".join(map(str, merged)))
    else:
        say(to_yaml(compose_from(args).model_dump(mode="json")).rstrip())
    return 0
