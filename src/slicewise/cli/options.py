"""Options shared by the verbs, and what they mean for a run."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from slicewise.cli.invocation import default_workspace, named_steps
from slicewise.config.keys import closest_match, known_keys
from slicewise.config.schema import Config
from slicewise.core.disk import existing_parent, expand_user
from slicewise.core.errors import ConfigError, UsageError
from slicewise.engine.selection import Selection, select
from slicewise.engine.step import Step
from slicewise.engine.workspace import Workspace
from slicewise.workflow.step_names import (
    ALIASES,
    MODES,
    STEP_NAMES,
    expand_alias,
    is_in_range,
    step_names,
    steps_of_mode,
)

TRAINING_MODES = ("quick", "baseline", "production")


def add_workspace_option(parser: argparse.ArgumentParser) -> None:
    """Add the workspace."""
    parser.add_argument(
        "--workspace",
        type=Path,
        default=default_workspace(),
        metavar="DIR",
        help="where outputs live (default: $SLICEWISE_WORKSPACE, else here)",
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add which trained network answers."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--checkpoint",
        type=Path,
        metavar="FILE",
        help="the network (default: checkpoints/multitask_joint/best_model.pth of the workspace)",
    )
    group.add_argument(
        "--ensemble",
        action="store_true",
        help="the mean of the networks of all folds, after `slicewise run --folds N`",
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
        help="cross-validation: train and test N times, everyone tested once (short for split.folds=N)",
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="key=value", help="any key of the configuration, in Hydra's syntax"
    )


def add_selection_options(parser: argparse.ArgumentParser) -> None:
    """Add the mode and the flags that choose steps."""
    steps = ", ".join(STEP_NAMES)
    group = parser.add_argument_group(
        "steps", f"{steps}; train stands for the three stages, all for every step"
    )
    group.add_argument(
        "--mode", choices=tuple(MODES), default="full", help="part of the pipeline (default: full)"
    )
    group.add_argument("--from", dest="start", metavar="STEP", help="first step")
    group.add_argument("--until", metavar="STEP", help="last step")
    for option, help_text in (
        ("--only", "nothing but these steps"),
        ("--force", "run these even if nothing changed"),
    ):
        group.add_argument(option, metavar="STEP[,STEP]", default="", action=_JoinedNames, help=help_text)
    for name in (*STEP_NAMES, *ALIASES):
        group.add_argument(
            f"--skip-{name}",
            dest="skip",
            action="append_const",
            const=name,
            help=f"use the output of {name} as it is" if name in STEP_NAMES else _skip_help(ALIASES[name]),
        )


def _skip_help(steps: Sequence[str]) -> str:
    return "skip every step" if steps == STEP_NAMES else f"short for --skip-{' --skip-'.join(steps)}"


class _JoinedNames(argparse.Action):
    """Lets `--only a --only b` mean `--only a,b`, where argparse would keep the last one alone."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        _option: str | None = None,
    ) -> None:
        names = [getattr(namespace, self.dest), str(values)]
        setattr(namespace, self.dest, ",".join(filter(None, names)))


def add_wait_option(parser: argparse.ArgumentParser) -> None:
    """Add how long to wait for another controller of the workspace."""
    parser.add_argument(
        "--wait",
        nargs="?",
        type=_seconds,
        const=math.inf,
        default=0.0,
        metavar="SECONDS",
        help="wait until no other command works in the workspace, at most so long (default: refuse at once)",
    )


def expand_wait(words: Sequence[str]) -> list[str]:
    """Say `--wait=inf` for a bare `--wait`: argparse would take an override after it for its seconds."""
    after = [*words, ""][1:]
    return [
        "--wait=inf" if word == "--wait" and not _is_number(next_word) else word
        for word, next_word in zip(words, after, strict=True)
    ]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds >= 0:  # nor is it so for nan
        raise ValueError(text)
    return seconds


_seconds.__name__ = "number of seconds"  # as argparse calls it


def compose_from(args: argparse.Namespace) -> Config:
    """Merge configs/ with the training mode and the overrides of the command line.

    Raises:
        UsageError: an option and an override say the same twice.
    """
    from slicewise.config.compose import compose

    config = compose([f"modes={args.training_mode}", *overrides_of(args)])
    if config.split.fold:
        raise UsageError(
            "split.fold is set by the pipeline itself, for each fold; leave it out. --folds N runs all of "
            "them, and --only takes the steps of one, such as fold2.split,fold2.evaluate"
        )
    return config


def overrides_of(args: argparse.Namespace) -> list[str]:
    """Return what the command line sets beside the training mode.

    Raises:
        UsageError: an option and an override say the same twice.
    """
    for option, key in (("--training-mode", "modes"), ("--folds", "split.folds")):
        if is_typed(args, option) and any(word.startswith(f"{key}=") for word in args.overrides):
            raise UsageError(f"{option} and {key}= set the same; leave one of them out")
    folds = [f"split.folds={args.folds}"] if args.folds else []
    return [*folds, *_overrides(args.overrides)]


def refuse_together(args: argparse.Namespace, option: str, others: Sequence[str], why: str) -> None:
    """Raise UsageError where an option was typed with one of the others, which it would drop."""
    typed = [other for other in others if is_typed(args, other)]
    if is_typed(args, option) and typed:
        raise UsageError(f"{option} {why}; leave {' and '.join(typed)} out, or {option}")


def is_typed(args: argparse.Namespace, option: str) -> bool:
    """Whether an option was given, and does not stand for its default."""
    return any(word.partition("=")[0] == option for word in args.typed)


def compose_overrides(overrides: Sequence[str]) -> Config:
    """Merge configs/ with overrides alone, for a verb whose answer no training mode decides."""
    from slicewise.config.compose import compose

    return compose(list(overrides))


def workspace_from(args: argparse.Namespace) -> Workspace:
    """Return the workspace; it must be a folder, or become one, whose path is text.

    Raises:
        UsageError: a file is in the way, or the path is not UTF-8: records could not name it.
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


def build_steps(config: Config, workspace: Workspace) -> tuple[Step[Config], ...]:
    """Return the steps of a configuration in a workspace.

    Raises:
        ConfigError: the run would replace the very checkpoint it begins with, and never be up to date.
    """
    from slicewise.steps import pipeline

    steps = pipeline(config.split.folds)
    start = config.training.start_from
    homes = {workspace.home(home).resolve() for step in steps for home in step.homes.values()}
    if start is not None and homes & {*expand_user(start).resolve().parents}:
        raise ConfigError(
            f"training.start_from={start} is an output of this workspace, which the run replaces; copy it to "
            "another place first, or run in another --workspace"
        )
    return steps


def selection_from(args: argparse.Namespace, folds: int) -> Selection:
    """Turn the flags into one request per step of a pipeline with so many folds.

    Raises:
        UsageError: a flag names no step or an unknown one, or two of them contradict each other.
    """
    _refuse_contradictions(args, folds)
    start, until, only, force = (
        _parse_steps(option, text, folds)
        for option, text in (
            ("from", args.start),
            ("until", args.until),
            ("only", args.only),
            ("force", args.force),
        )
    )
    members = steps_of_mode(args.mode, folds)
    if not members:
        raise UsageError(
            f"--mode {args.mode} has nothing to do with folds: it serves one network; leave --folds out"
        )
    return select(
        step_names(folds),
        members=[step for step in members if is_in_range(step, args.start, args.until)],
        scope=" ".join(
            f"--{option} {typed}"
            for option, typed in (("mode", args.mode), ("from", args.start), ("until", args.until))
            if typed
        ),
        start=start[0] if start else None,
        until=until[-1] if until else None,
        only=only,
        skip=[step for name in args.skip or () for step in expand_alias(name, folds)],
        force=force,
    )


def _refuse_contradictions(args: argparse.Namespace, folds: int) -> None:
    for option, text in (
        ("from", args.start),
        ("until", args.until),
        ("only", args.only),
        ("force", args.force),
    ):
        if is_typed(args, f"--{option}") and not named_steps(text or "", folds=0):
            raise UsageError(f"--{option} names no step; the steps are {', '.join(STEP_NAMES)}")
    refuse_together(args, "--only", ("--mode", "--from", "--until"), "names all steps that are asked for")
    skipped = {step for name in args.skip or () for step in expand_alias(name, folds)}
    both = [step for step in named_steps(args.only or "", folds) if step in skipped]
    if both:
        raise UsageError(f"{', '.join(both)}: both skipped and named by --only; choose one")


def _parse_steps(option: str, text: str | None, folds: int) -> list[str]:
    names = named_steps(text or "", folds)
    if text and not names:
        raise UsageError(f"--{option} {text} has nothing to do with folds; leave --folds out")
    for name in (name for name in names if name not in (*step_names(folds), *STEP_NAMES)):
        close_name = closest_match(name, [*step_names(folds), *ALIASES])
        guess = f"did you mean {close_name}? " if close_name else ""
        steps = ", ".join(step_names(folds))
        raise UsageError(f"--{option}: no step is called {name}; {guess}the steps are {steps}")
    return names


def _suggestion(word: str) -> str:
    if word in TRAINING_MODES:
        return f"did you mean --training-mode {word}?"
    if word in MODES:
        return f"did you mean --mode {word}?"
    if word in (*STEP_NAMES, *ALIASES):
        return f"did you mean --only {word}?"
    return f"write {word}=VALUE" if word in known_keys() else ""


def _overrides(words: Sequence[str]) -> list[str]:
    for word in words:
        if "=" not in word and not word.startswith("~"):
            raise UsageError(
                f"{word!r} is neither an option nor key=value; {_suggestion(word) or 'see --help'}"
            )
    return list(words)
