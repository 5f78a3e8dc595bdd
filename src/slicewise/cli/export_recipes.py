"""The options of `slicewise export` that make the model smaller and faster at a loss."""

import argparse
from typing import TYPE_CHECKING

from slicewise.core.errors import UsageError

if TYPE_CHECKING:
    from slicewise.workflow.acceptance import Limits
    from slicewise.workflow.smaller_model import Recipe


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Add `--int8`, `--prune`, `--distill` and what goes with them."""
    group = parser.add_argument_group(
        "smaller and faster",
        "Each is kept only if it is faster, and loses no more than --max-loss on the validation patients of "
        "the workspace; otherwise nothing is written.",
    )
    text = "add int8 graphs of the formats onnx and openvino, calibrated on training slices"
    group.add_argument("--int8", action="store_true", help=text)
    text = "remove this share of the channels of each layer, 0.3 say, and train the model on"
    group.add_argument("--prune", type=float, metavar="R", help=text)
    text = (
        "train a model with another encoder (`slicewise models`) from the truth and this one's probabilities"
    )
    group.add_argument("--distill", metavar="ENCODER", help=text)
    text = "epochs of --prune (default: those of the stage) and of --distill (default: twice as many)"
    group.add_argument("--epochs", type=int, metavar="N", help=text)
    text = "what may be lost (default: 0.003 0.003)"
    group.add_argument(
        "--max-loss", nargs=2, type=float, default=(0.003, 0.003), metavar=("DICE", "AUC"), help=text
    )
    text = "check the loss alone: the speed of another machine cannot be measured here"
    group.add_argument("--for-another-machine", action="store_true", help=text)


def read_recipe(args: argparse.Namespace) -> "tuple[Recipe | None, Limits]":
    """Return how the model becomes smaller, if it does, and what may be lost.

    Raises:
        UsageError: a value is out of range.
    """
    from slicewise.workflow.acceptance import Limits
    from slicewise.workflow.smaller_model import Recipe

    dice, auc = args.max_loss
    if not (dice >= 0 and auc >= 0):
        raise UsageError("--max-loss: two numbers from 0 on, of Dice and of AUC")
    if args.prune is not None and not 0 < args.prune < 1:
        raise UsageError(f"--prune {args.prune:g}: a share of the channels between 0 and 1, such as 0.3")
    if args.epochs is not None and (args.epochs < 1 or not (args.prune or args.distill)):
        raise UsageError("--epochs: a number from 1 on, beside --prune or --distill")
    smaller = args.prune or args.distill
    recipe = Recipe(args.distill, args.prune or 0.0, args.epochs) if smaller else None
    return recipe, Limits(dice, auc, must_be_faster=not args.for_another_machine)
