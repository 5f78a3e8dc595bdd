"""`slicewise config`: the merged configuration, or what one mode changes against another."""

import argparse
import json
import os

from slicewise.cli import options
from slicewise.config.schema import Config
from slicewise.config.schema.base import plain
from slicewise.core.console import paint, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_config_options(parser)
    modes, diff_help = ("MODE", "MODE"), "keys in which two modes differ"
    parser.add_argument("--diff", nargs=2, choices=options.TRAINING_MODES, metavar=modes, help=diff_help)
    parser.add_argument("--write", action="store_true", help="write the nine merged files to configs/final")


def execute(args: argparse.Namespace) -> int:
    from slicewise.config.export import compare_configs, to_yaml, write_merged
    from slicewise.config.folders import find_configs_dir

    options.refuse_together(
        args,
        "--diff",
        ("--training-mode", "--config", "--write", "--workspace"),
        "only prints how two modes differ",
    )
    options.refuse_together(
        args, "--write", ("--training-mode", "--config"), "writes the files of every mode"
    )

    def compose_mode(mode: str) -> Config:
        return options.compose_overrides([f"modes={mode}", *options.overrides_of(args)], args)

    if args.diff:
        left, right = map(compose_mode, args.diff)
        for key, values in compare_configs(left, right).items():
            # As overrides have them: null and true, not None and True.
            old, new = (value if isinstance(value, str) else json.dumps(value) for value in values)
            say(f"{key}: {old} -> {paint(new, 'header')}")
    elif args.write:
        # Into the workspace if one is named, else beside their sources.
        has_workspace = options.is_typed(args, "--workspace") or "SLICEWISE_WORKSPACE" in os.environ
        base = options.workspace_from(args).root / "configs" if has_workspace else find_configs_dir()
        say("\n".join(map(str, write_merged(base / "final", compose_mode))))
    else:
        say(to_yaml(plain(options.compose_from(args))).rstrip())
    return 0
