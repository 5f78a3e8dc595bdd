"""`slicewise test CHECKPOINT data=... data.path=DIR`: a trained model evaluated on other people's data."""

import argparse
from pathlib import Path
from typing import Final

from slicewise.cli import options
from slicewise.cli.plan import print_plan
from slicewise.cli.run import hold_workspace, run_pipeline, show_summary
from slicewise.cli.short_options import add_short_options
from slicewise.config.schema import Config
from slicewise.core.console import say
from slicewise.core.disk import expand_user
from slicewise.core.errors import UsageError
from slicewise.engine.plan import plan, select
from slicewise.engine.workspace import Workspace
from slicewise.steps import external_pipeline

FOLDER: Final = "external"
"""Below the workspace; each set of data has a folder of its own there"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "slicewise test CHECKPOINT data=NAME data.path=DIR [options] [key=value ...]"
    text = "the model: a best_model.pth, such as checkpoints/multitask_joint/best_model.pth"
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help=text)
    options.add_workspace_option(parser)
    add_short_options(parser, "--num-patients", "--num-images", "--device")
    options.add_run_options(parser)
    text = "the data, as for `slicewise run`, and keys of the sections evaluation and runtime"
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=text)
    parser.set_defaults(training_mode="quick", folds=0, mode="test", force=[])


def execute(args: argparse.Namespace) -> int:
    from slicewise.models.checkpoint import load_checkpoint
    from slicewise.workflow.external import compose_external

    path = expand_user(args.checkpoint)
    if "=" in str(args.checkpoint) and not path.exists():
        raise UsageError(f"no CHECKPOINT is given before {args.checkpoint}; name a best_model.pth")
    checkpoint = load_checkpoint(path)
    overrides = options.overrides_of(args)
    if not any(word.startswith("data=") for word in overrides):
        raise UsageError(
            "no data=NAME is given; name the kind of data and its folder: data=brats data.path=DIR"
        )
    config = compose_external(overrides, checkpoint, str(args.checkpoint))
    steps = external_pipeline(path.absolute(), options.fixed_settings(config, overrides))
    workspace = Workspace(options.workspace_from(args).root / FOLDER / _name(config))
    say(
        f"test of {path} ({checkpoint.stage}, trained on {checkpoint.data_name}) in {workspace.root}",
        "header",
    )
    selection = select(steps, scope="")
    if args.dry_run:
        print_plan(plan(steps, config, workspace, workspace.load_hashes(), selection), config)
        return 0
    with hold_workspace(args, workspace) as log_path:
        record = run_pipeline(args, config, selection, workspace, log_path, steps)
        show_summary(record, config, workspace, steps)
    return 0


def _name(config: Config) -> str:
    """Return the name of the folder of the data, or that of the data set."""
    paths = [source.path for source in config.data.sources.values() if source.path]
    return expand_user(paths[0]).absolute().name if paths else config.data.name
