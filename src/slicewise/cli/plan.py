"""`slicewise plan`: what a run would do, and why. Nothing is changed."""

import argparse

from slicewise.cli.options import add_config_options, add_selection_options
from slicewise.cli.session import plan_pipeline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser)
    add_selection_options(parser)


def execute(args: argparse.Namespace) -> int:
    plan_pipeline(args)
    return 0
