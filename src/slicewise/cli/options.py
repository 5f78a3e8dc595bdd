"""Options shared by the verbs; the configuration, the workspace and the steps that they select."""

import argparse
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, get_args

from slicewise.cli.invocation import default_workspace, split_names
from slicewise.cli.parser import Parser
from slicewise.config.keys import known_keys
from slicewise.config.schema import Config
from slicewise.config.schema.config import TrainingMode
from slicewise.core.disk import existing_parent, expand_user
from slicewise.core.errors import SliceWiseError, UsageError
from slicewise.engine.selection import Selection, expand, select
from slicewise.engine.step import Step
from slicewise.engine.workspace import Workspace
from slicewise.steps import pipeline

TRAINING_MODES: Final[tuple[str, ...]] = get_args(TrainingMode)
_MODES: Final = {
    "full": (),
    "data-only": ("data",),
    "train-eval": ("train", "evaluate"),
    "demo": ("demo",),
}
"""Mode -> groups of steps, none for all"""


def add_workspace_option(parser: argparse.ArgumentParser) -> None:
    """Add --workspace."""
    parser.add_argument(
        "--workspace",
        type=Path,
        default=default_workspace(),
        metavar="DIR",
        help="where outputs live (default: $SLICEWISE_WORKSPACE, else here)",
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add --checkpoint and --ensemble."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="the model (default: that of the final stage in the workspace)",
    )
    group.add_argument(
        "--ensemble",
        action="store_true",
        help="the mean of the models of all folds, after `slicewise run --folds N`",
    )


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add the workspace, the training mode and the overrides."""
    add_workspace_option(parser)
    parser.add_argument(
        "--training-mode", choices=TRAINING_MODES, default="quick", help="scale of the run (default: quick)"
    )
    parser.add_argument(
        "--folds",
        type=int,
        default=0,
        metavar="N",
        help="cross-validation with N folds, each patient tested once (short for split.folds=N)",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="any key of the configuration, in Hydra's syntax"
    )


def add_selection_options(parser: argparse.ArgumentParser) -> None:
    """Add --mode and the options that select steps."""
    group = parser.add_argument_group("steps")
    if isinstance(parser, Parser):
        parser.on_help = lambda: setattr(group, "description", _describe_steps())
    group.add_argument(
        "--mode", choices=tuple(_MODES), default="full", help="part of the pipeline (default: full)"
    )
    group.add_argument("--from", dest="start", metavar="STEP", help="first step")
    group.add_argument("--until", metavar="STEP", help="last step")
    for option, help_text in (
        ("--only", "only these steps"),
        ("--force", "run these even if nothing changed"),
        ("--skip", "use the existing output of these; --skip-STEP is the same for one"),
    ):
        group.add_argument(option, metavar="STEP[,STEP]", default="", action=_JoinedNames, help=help_text)


def _describe_steps() -> str:
    """Return the steps of the default configuration and their aliases, for the help."""
    try:
        steps = pipeline(compose_overrides([]))
    except SliceWiseError:  # no configuration files here: the help does without
        return "`slicewise plan` lists the steps"
    aliases: dict[str, list[str]] = {"all": ["every step"]}
    for step in steps:
        for alias in step.aliases:
            aliases.setdefault(alias, []).append(step.name)
    meanings = (f"{alias} stands for {', '.join(names)}" for alias, names in aliases.items())
    return f"{', '.join(step.name for step in steps)}; {'; '.join(meanings)}"


class _JoinedNames(argparse.Action):
    """Lets `--only a --only b` mean `--only a,b`; argparse would keep the last one only."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        _option: str | None = None,
    ) -> None:
        names = [getattr(namespace, self.dest), str(values)]
        setattr(namespace, self.dest, ",".join(filter(None, names)))


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add --dry-run, --wait, and whether a run asks questions."""
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    add_wait_option(parser)
    answers = parser.add_mutually_exclusive_group()
    answers.add_argument("--yes", action="store_true", help="answer every question with yes")
    answers.add_argument("--no-input", action="store_true", help="ask no questions and do what the plan says")


def add_wait_option(parser: argparse.ArgumentParser) -> None:
    """Add how long to wait while another command works in the workspace."""
    parser.add_argument(
        "--wait",
        nargs="?",
        type=_seconds,
        const=math.inf,
        default=0.0,
        metavar="SECONDS",
        help="wait until no other command works in the workspace, at most so long (default: fail at once)",
    )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds >= 0:  # false for NaN too
        raise ValueError(text)
    return seconds


_seconds.__name__ = "number of seconds"  # for argparse's message


def expand_words(words: Sequence[str]) -> list[str]:
    """Return `--skip=STEP` for `--skip-STEP`, and `--wait=inf` for a bare `--wait`.

    argparse would take an override after `--wait` for the seconds.
    """
    expanded = [re.sub("^--skip-(?=.)", "--skip=", word) for word in words]
    for place, word in enumerate(words):
        if word == "--wait":
            try:
                float(words[place + 1])
            except (IndexError, ValueError):
                expanded[place] = "--wait=inf"
    return expanded


def compose_from(args: argparse.Namespace) -> Config:
    """Return configs/ merged with the training mode and the overrides of the command line.

    Raises:
        UsageError: as of `overrides_of`, or split.fold is set.
    """
    config = compose_overrides([f"modes={args.training_mode}", *overrides_of(args)])
    if config.split.fold:
        raise UsageError(
            "split.fold is set by the pipeline itself; leave it out. --folds N runs all folds, and --only "
            "selects the steps of one, e.g. fold2.split,fold2.evaluate"
        )
    return config


def overrides_of(args: argparse.Namespace) -> list[str]:
    """Return the overrides of the command line, those of --folds included.

    Raises:
        UsageError: an option and an override set the same key, or a word is not an override.
    """
    for option, key in (("--training-mode", "modes"), ("--folds", "split.folds")):
        if is_typed(args, option) and any(word.startswith(f"{key}=") for word in args.overrides):
            raise UsageError(f"{option} and {key}= set the same; leave one of them out")
    for word in args.overrides:
        if "=" not in word and not word.startswith("~"):
            raise UsageError(
                f"{word!r} is neither an option nor key=value; {_suggestion(word) or 'see --help'}"
            )
    return [*([f"split.folds={args.folds}"] if args.folds else []), *args.overrides]


def _suggestion(word: str) -> str:
    if word in TRAINING_MODES:
        return f"did you mean --training-mode {word}?"
    if word in _MODES:
        return f"did you mean --mode {word}?"
    if any(step.is_called(word) for step in pipeline(compose_overrides([]))):
        return f"did you mean --only {word}?"
    return f"write {word}=VALUE" if word in known_keys() else ""


def refuse_together(args: argparse.Namespace, option: str, others: Sequence[str], why: str) -> None:
    """Raise UsageError if an option was typed together with one of the others, which it would ignore."""
    typed = [other for other in others if is_typed(args, other)]
    if is_typed(args, option) and typed:
        raise UsageError(f"{option} {why}; leave {' and '.join(typed)} out, or {option}")


def is_typed(args: argparse.Namespace, option: str) -> bool:
    """Whether an option was typed; else it has its default."""
    return any(word.partition("=")[0] == option for word in args.typed)


def compose_overrides(overrides: Sequence[str]) -> Config:
    """Return configs/ merged with the overrides only."""
    from slicewise.config.compose import compose

    return compose(list(overrides))


def workspace_from(args: argparse.Namespace) -> Workspace:
    """Return the workspace, which need not exist.

    Raises:
        UsageError: it or a folder above it is a file, or the path is not UTF-8, as records need it.
    """
    root = expand_user(args.workspace)
    if str(root.absolute()) != str(root.absolute()).encode("utf-8", "replace").decode():
        raise UsageError(
            f"--workspace {root.absolute()} is not UTF-8, and the records of a run are; rename the folder "
            "(`convmv -f latin1 -t utf8 --notest` converts names of an older system) or choose another one"
        )
    parent = existing_parent(root)
    if not parent.is_dir():
        raise UsageError(f"--workspace {root}: {parent} is not a folder")
    return Workspace(root)


def selection_from(args: argparse.Namespace, config: Config) -> Selection:
    """Return one request per step of the pipeline.

    Raises:
        UsageError: an option names no step or an unknown one, or two options contradict each other.
    """
    steps = pipeline(config)
    texts = {"from": args.start, "until": args.until}
    texts |= {"only": args.only, "force": args.force, "skip": args.skip}
    names = {option: split_names(text or "") for option, text in texts.items()}
    for option in texts:
        if is_typed(args, f"--{option}") and not names[option]:
            listed = ", ".join(step.name for step in steps)
            raise UsageError(f"--{option} names no step; the steps are {listed}")
        _check_names(option, names[option], steps, config)
    refuse_together(args, "--only", ("--mode", "--from", "--until"), "names all steps to run")
    groups = _MODES[args.mode]
    if groups and not any(step.group in groups for step in steps):
        raise UsageError(f"--mode {args.mode} serves one model, not one per fold; leave --folds out")
    scope = (("mode", args.mode), ("from", args.start), ("until", args.until))
    return select(
        steps,
        groups=groups,
        scope=" ".join(f"--{option} {text}" for option, text in scope if text),
        start=next(iter(names["from"]), None),
        until=next(iter(names["until"]), None),
        only=names["only"],
        skip=names["skip"],
        force=names["force"],
    )


def _check_names(option: str, names: Sequence[str], steps: Sequence[Step[Config]], config: Config) -> None:
    """Refuse names that mean no step, or only one of a run without folds."""
    try:
        expand(names, steps)
    except UsageError as error:
        single = config.model_copy(update={"split": config.split.model_copy(update={"folds": 0})})
        for name in names if config.split.folds else ():
            if any(s.is_called(name) for s in pipeline(single)) and not any(s.is_called(name) for s in steps):
                raise UsageError(f"--{option} {name} does not exist with folds; leave --folds out") from error
        raise UsageError(f"--{option}: {error}") from error
