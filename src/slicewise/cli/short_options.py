"""Options that are short names of keys: they are recorded as the keys that they set."""

import argparse
from collections.abc import Sequence
from typing import Final

from slicewise.core.errors import UsageError

SHORT_OPTIONS: Final = {
    "--num-patients": ("N", "scale.num_patients", "use N patients with volumes"),
    "--num-images": ("N", "scale.num_pictures", "use N images, or families of similar ones"),
    "--epochs": ("N", "stages.STAGE.epochs", "epochs of every stage"),
    "--minutes": ("N", "training.minutes", "plan epochs and batches for a run of N minutes"),
    "--batch-size": ("N", "training.batch_size", "slices of a training batch"),
    "--lr": ("X", "stages.STAGE.learning_rates.PART", "peak learning rate of all that a stage trains"),
    "--seed": ("N", "seed", "seed of training"),
    "--device": ("NAME", "runtime.device", "auto, cpu, cuda or mps"),
}
"""Option -> its value, the key or keys that it sets, and its help"""


def add_short_options(parser: argparse.ArgumentParser, *options: str) -> None:
    """Add these short options; all of them where none is named."""
    for option in options or SHORT_OPTIONS:
        value, key, text = SHORT_OPTIONS[option]
        parser.add_argument(option, metavar=value, help=f"{text} (short for {key})")


def write_out_short_options(args: argparse.Namespace) -> None:
    """Replace short options by the keys that they set, in the arguments and in the recorded command."""
    for option in SHORT_OPTIONS:
        name = option.removeprefix("--").replace("-", "_")
        value = getattr(args, name, None)
        if value is None:
            continue
        overrides = [f"{key}={value}" for key in keys_of(option, args)]
        for override in overrides:
            key = override.partition("=")[0]
            if given := [word for word in args.overrides if word.partition("=")[0].lstrip("+~") == key]:
                raise UsageError(f"{option} and {given[0]} set the same; leave one of them out")
        args.typed = replace_option(args.typed, option, overrides)
        args.overrides = [*args.overrides, *overrides]
        setattr(args, name, None)


def keys_of(option: str, args: argparse.Namespace) -> list[str]:
    """Return the keys that a short option sets: of every stage, or of all parts that a stage trains."""
    key = SHORT_OPTIONS[option][1]
    if "STAGE" not in key:
        return [key]
    from slicewise.config.compose import compose, compose_file

    if args.config is None:
        stages = compose([f"modes={args.training_mode}", *args.overrides]).stages
    else:
        stages = compose_file(args.config, args.overrides).stages
    return [
        key.replace("STAGE", name).replace("PART", part)
        for name, stage in stages.items()
        for part, rate in (stage.learning_rates if "PART" in key else [("", 1.0)])
        if rate
    ]


def replace_option(words: Sequence[str], option: str, others: Sequence[str] = ()) -> list[str]:
    """Return words with others in place of an option and its value, wherever it stands."""
    left = list(words)
    for place in reversed([place for place, word in enumerate(words) if word.partition("=")[0] == option]):
        left[place : place + (1 if "=" in words[place] else 2)] = others
        others = ()
    return left
