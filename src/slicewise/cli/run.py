"""`slicewise run`: the pipeline, or the part of it that is out of date."""

import argparse

from slicewise.cli.options import (
    add_config_options,
    add_run_options,
    add_selection_options,
    compose_from,
    selection_from,
    workspace_from,
)
from slicewise.cli.session import hold_workspace, plan_pipeline, run_pipeline
from slicewise.cli.summary import show_summary


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser)
    add_selection_options(parser)
    add_run_options(parser)


def execute(args: argparse.Namespace) -> int:
    if args.dry_run:
        plan_pipeline(args)
        return 0
    config = compose_from(args)
    selection = selection_from(args, config)
    workspace = workspace_from(args)
    with hold_workspace(args, workspace) as log_path:
        show_summary(run_pipeline(args, config, selection, workspace, log_path), config, workspace)
    return 0
