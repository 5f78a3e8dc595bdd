"""Options shared by the verbs; the configuration, the workspace and the steps that they select."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from slicewise.cli.invocation import default_workspace, named_steps
from slicewise.config.keys import closest_match, known_keys
from slicewise.config.schema import Config
from slicewise.core.disk import existing_parent, expand_user
from slicewise.core.errors import UsageError
from slicewise.engine.selection import Selection, select
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
        help="the model (default: checkpoints/multitask_joint/best_model.pth of the workspace)",
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
        ("--only", "only these steps"),
        ("--force", "run these even if nothing changed"),
    ):
        group.add_argument(option, metavar="STEP[,STEP]", default="", action=_JoinedNames, help=help_text)
    for name in (*STEP_NAMES, *ALIASES):
        aliased = ALIASES.get(name, ())
        all_options = (
            "skip every step" if aliased == STEP_NAMES else f"short for --skip-{' --skip-'.join(aliased)}"
        )
        help_text = all_options if aliased else f"use the existing output of {name}"
        group.add_argument(f"--skip-{name}", dest="skip", action="append_const", const=name, help=help_text)


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


def expand_wait(words: Sequence[str]) -> list[str]:
    """Replace a bare `--wait` by `--wait=inf`: argparse would take an override after it for the seconds."""
    expanded = list(words)
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
    if word in MODES:
        return f"did you mean --mode {word}?"
    if word in (*STEP_NAMES, *ALIASES):
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


def selection_from(args: argparse.Namespace, folds: int) -> Selection:
    """Return one request per step of a pipeline with that many folds.

    Raises:
        UsageError: an option names no step or an unknown one, or two options contradict each other.
    """
    texts = {"from": args.start, "until": args.until, "only": args.only, "force": args.force}
    for option, text in texts.items():
        if is_typed(args, f"--{option}") and not named_steps(text or "", folds=0):
            raise UsageError(f"--{option} names no step; the steps are {', '.join(STEP_NAMES)}")
    refuse_together(args, "--only", ("--mode", "--from", "--until"), "names all steps to run")
    skip = [step for name in args.skip or () for step in expand_alias(name, folds)]
    if both := [step for step in named_steps(args.only or "", folds) if step in skip]:
        raise UsageError(f"{', '.join(both)}: both skipped and named by --only; choose one")
    steps = {option: _parse_steps(option, text, folds) for option, text in texts.items()}
    members = steps_of_mode(args.mode, folds)
    if not members:
        raise UsageError(f"--mode {args.mode} serves one model, not one per fold; leave --folds out")
    scope = (("mode", args.mode), ("from", args.start), ("until", args.until))
    return select(
        step_names(folds),
        members=[step for step in members if is_in_range(step, args.start, args.until)],
        scope=" ".join(f"--{option} {text}" for option, text in scope if text),
        start=steps["from"][0] if steps["from"] else None,
        until=steps["until"][-1] if steps["until"] else None,
        only=steps["only"],
        skip=skip,
        force=steps["force"],
    )


def _parse_steps(option: str, text: str | None, folds: int) -> list[str]:
    names = named_steps(text or "", folds)
    if text and not names:
        raise UsageError(f"--{option} {text} does not exist with folds; leave --folds out")
    known_steps = step_names(folds)
    for name in names:
        if name not in (*known_steps, *STEP_NAMES):
            close_name = closest_match(name, [*known_steps, *ALIASES])
            guess = f"did you mean {close_name}? " if close_name else ""
            listed = ", ".join(known_steps)
            raise UsageError(f"--{option}: no step is called {name}; {guess}the steps are {listed}")
    return names
