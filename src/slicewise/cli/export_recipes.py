"""The options of `slicewise export` that make its graphs faster at a loss."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from slicewise.core.console import say
from slicewise.core.errors import UsageError

if TYPE_CHECKING:
    from slicewise.workflow.acceptance import Limits


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Add `--int8` and what goes with it."""
    group = parser.add_argument_group(
        "int8",
        "It is kept only if it is faster, and loses no more than --max-loss on the validation patients of "
        "the workspace; otherwise nothing is written.",
    )
    text = "add int8 graphs of the formats onnx and openvino, calibrated on training slices"
    group.add_argument("--int8", action="store_true", help=text)
    text = "what may be lost (default: 0.003 0.003)"
    group.add_argument(
        "--max-loss", nargs=2, type=float, default=(0.003, 0.003), metavar=("DICE", "AUC"), help=text
    )
    text = "check the loss alone: the speed of another machine cannot be measured here"
    group.add_argument("--for-another-machine", action="store_true", help=text)


def int8_recipe(args: argparse.Namespace, checkpoint: Path) -> Callable[[Path], None]:
    """Return what adds int8 graphs to a bundle, or nothing to add."""
    if min(args.max_loss) < 0:
        raise UsageError("--max-loss: two numbers from 0 on, of Dice and of AUC")
    if not args.int8:
        return lambda _: None
    from slicewise.workflow.compression import add_int8

    return partial(add_int8, checkpoint, _limits(args), say)


def _limits(args: argparse.Namespace) -> "Limits":
    from slicewise.workflow.acceptance import Limits

    dice, auc = args.max_loss
    return Limits(dice, auc, must_be_faster=not args.for_another_machine)
