"""`slicewise models`: the architectures and encoders to choose from, as a configuration would build them."""

import argparse
import json
from dataclasses import asdict

from slicewise.cli import options
from slicewise.core.console import paint, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_config_options(parser)
    parser.add_argument("--json", action="store_true", help="print the list as JSON")
    parser.epilog = (
        "Choose one with model.architecture=NAME and model.encoder=NAME; depth and width are "
        "model.encoder_depth and model.decoder_width. Architectures of MONAI have an encoder of their own."
    )


def execute(args: argparse.Namespace) -> int:
    config = options.compose_from(args)
    from slicewise.models.catalogue import list_models

    models = list_models(config)
    if args.json:
        say(json.dumps([asdict(model) for model in models], indent=1))
        return 0
    columns = ("architecture", "encoder", "depth", "parameters", "ImageNet weights")
    layout = "{:<14} {:<32} {:>5} {:>11}  {}"
    say(layout.format(*columns), "header")
    for model in models:
        size = "-" if model.parameters is None else f"{model.parameters / 1e6:.1f} M"
        what = paint(f"cannot be built: {model.problem}", "warn") if model.problem else model.weights
        say(layout.format(model.architecture, model.encoder or "-", model.depth, size, what))
    return 0
