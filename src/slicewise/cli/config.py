"""`slicewise config`: the merged tree, or what one mode changes against another."""

import argparse
import json
from typing import Any

from slicewise.cli.options import TRAINING_MODES, add_config_options, compose_from
from slicewise.core.console import paint, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser)
    parser.add_argument(
        "--diff",
        nargs=2,
        choices=TRAINING_MODES,
        metavar=("MODE", "MODE"),
        help="keys in which two modes differ",
    )
    parser.add_argument("--write", action="store_true", help="write the nine merged files to configs/final")


def execute(args: argparse.Namespace) -> int:
    from slicewise.config.compose import compose, configs_dir
    from slicewise.config.show import difference, to_yaml, write_final

    if args.diff:
        left, right = (compose([f"modes={mode}", *args.overrides]) for mode in args.diff)
        for key, (old, new) in difference(left, right).items():
            say(f"{key}: {_spelled(old)} -> {paint(_spelled(new), 'header')}")
    elif args.write:
        for path in write_final(
            configs_dir() / "final", lambda mode: compose([f"modes={mode}", *args.overrides])
        ):
            say(str(path))
    else:
        say(to_yaml(compose_from(args).model_dump(mode="json")).rstrip())
    return 0


def _spelled(value: Any) -> str:
    """Write a value as an override takes it: null and true, not None and True."""
    return value if isinstance(value, str) else json.dumps(value)
