"""Options shared by the verbs; configuration, workspace and steps that they select; commands as text."""

import argparse
import math
import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Any, Final, get_args

from slicewise.cli.parser import Parser
from slicewise.cli.short_options import (
    SHORT_OPTIONS,
    add_short_options,
    replace_option,
    write_out_short_options,
)
from slicewise.config.cache import ConfigCache
from slicewise.config.folders import config_folders
from slicewise.config.keys import known_keys
from slicewise.config.schema import Config
from slicewise.config.schema.config import TrainingMode
from slicewise.core.disk import existing_parent, expand_user
from slicewise.core.errors import SliceWiseError, UsageError
from slicewise.core.redact import redact
from slicewise.engine.plan import Selection, expand, select
from slicewise.engine.step import Step
from slicewise.engine.workspace import Workspace
from slicewise.steps import STEPS, pipeline
from slicewise.steps.preprocess import PREPROCESS

TRAINING_MODES: Final[tuple[str, ...]] = get_args(TrainingMode)
_MODES: Final = {"full": (), "data-only": ("data",), "train-eval": ("train", "evaluate"), "demo": ("demo",)}
"""Mode -> groups of steps, none for all"""
OVERRIDABLE: Final = (
    *("class_threshold", "mask_threshold", "min_component", "component_share", "uncertain_band"),
    *("flips", "rotation", "mask_smoothing", "class_smoothing"),
)
"""Keys of the section `evaluation` that hold, where they are set, whatever the evaluation selected"""


def default_workspace() -> Path:
    """Return the workspace of a command without --workspace."""
    return Path(os.environ.get("SLICEWISE_WORKSPACE", "."))


def add_workspace_option(parser: argparse.ArgumentParser) -> None:
    text = "where outputs live (default: $SLICEWISE_WORKSPACE, else here)"
    parser.add_argument("--workspace", type=Path, default=default_workspace(), metavar="DIR", help=text)


def add_config_options(parser: argparse.ArgumentParser) -> None:
    add_workspace_option(parser)
    text = "scale of the run (default: quick)"
    parser.add_argument("--training-mode", choices=TRAINING_MODES, default="quick", help=text)
    text = "take every key from this file, as `slicewise config` prints them, in place of configs/"
    parser.add_argument("--config", type=Path, metavar="FILE", help=text)
    text = "cross-validation with N folds, each patient tested once (short for split.folds=N)"
    parser.add_argument("--folds", type=int, default=0, metavar="N", help=text)
    add_short_options(parser)
    text = "any key of the configuration, in Hydra's syntax"
    parser.add_argument("overrides", nargs="*", metavar="key=value", help=text)


def add_selection_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("steps")
    if isinstance(parser, Parser):
        parser.on_help = lambda: setattr(group, "description", _describe_steps())
    text = "part of the pipeline (default: full)"
    group.add_argument("--mode", choices=tuple(_MODES), default="full", help=text)
    group.add_argument("--from", dest="start", metavar="STEP", help="first step")
    group.add_argument("--until", metavar="STEP", help="last step")
    for option, text in (
        ("--only", "only these steps"),
        ("--force", "run these even if nothing changed"),
        ("--skip", "use the existing output of these; --skip-STEP is the same for one"),
    ):
        group.add_argument(option, metavar="STEP[,STEP]", default=[], action="append", help=text)


def _describe_steps() -> str:
    """Return the steps of the default configuration and their aliases, for the help."""
    from slicewise.config.layers import outline

    try:
        folders = config_folders()
        steps = pipeline(compose_overrides([]) if STEPS.names() else outline(folders))
    except SliceWiseError:  # no configuration files here: the help does without
        return "`slicewise plan` lists the steps"
    aliases: dict[str, list[str]] = {"all": ["every step"]}
    for step in steps:
        for alias in step.aliases:
            aliases.setdefault(alias, []).append(step.name)
    meanings = (f"{alias} stands for {', '.join(names)}" for alias, names in aliases.items())
    return f"{', '.join(step.name for step in steps)}; {'; '.join(meanings)}"


def add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")
    add_wait_option(parser)
    answers = parser.add_mutually_exclusive_group()
    answers.add_argument("--yes", action="store_true", help="answer every question with yes")
    answers.add_argument("--no-input", action="store_true", help="ask no questions and do what the plan says")


def add_wait_option(parser: argparse.ArgumentParser) -> None:
    text = "wait until no other command works in the workspace, at most so long (default: fail at once)"
    parser.add_argument(
        "--wait", nargs="?", type=_seconds, const=math.inf, default=0.0, metavar="SECONDS", help=text
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
    if args.config is None:
        config = compose_overrides([f"modes={args.training_mode}", *overrides_of(args)], args)
    else:
        config = _compose_file(args)
    if config.split.fold:
        raise UsageError(
            "split.fold is set by the pipeline itself; leave it out. --folds N runs all folds, and --only "
            "selects the steps of one, e.g. fold2.split,fold2.evaluate"
        )
    return config


def _compose_file(args: argparse.Namespace) -> Config:
    """Return the configuration of the file of --config, with the overrides of the command line."""
    from slicewise.config.compose import compose_file

    refuse_together(args, "--config", ("--training-mode",), "names the mode itself")
    args.configs = ConfigCache(
        Workspace(expand_user(args.workspace)).state / "configs"
    )  # keeps none of these
    return compose_file(expand_user(args.config), overrides_of(args))


def overrides_of(args: argparse.Namespace) -> list[str]:
    """Return the overrides of the command line, those of --folds and of short options included.

    Raises:
        UsageError: an option and an override set the same key, or a word is not an override.
        ConfigError: the stages that a short option means cannot be composed.
    """
    for option, key in (("--training-mode", "modes"), ("--folds", "split.folds")):
        if is_typed(args, option) and any(word.startswith(f"{key}=") for word in args.overrides):
            raise UsageError(f"{option} and {key}= set the same; leave one of them out")
    for word in args.overrides:
        if "=" not in word and not word.startswith("~"):
            raise UsageError(
                f"{word!r} is neither an option nor key=value; {_suggestion(word) or 'see --help'}"
            )
    write_out_short_options(args)
    _adopt_number_of_cases(args)
    return [*([f"split.folds={args.folds}"] if args.folds else []), *args.overrides]


def _adopt_number_of_cases(args: argparse.Namespace) -> None:
    """With --skip-preprocess use as many patients and images as its output was made with."""
    if not any(PREPROCESS.is_called(name) for name in split_names(getattr(args, "skip", ()))):
        return
    receipt = workspace_from(args).home_receipt(PREPROCESS)
    keys = [SHORT_OPTIONS[option][1] for option in ("--num-patients", "--num-images")]
    stored = {key: receipt.identity.settings.get(key) for key in keys} if receipt else {}
    given = {word.partition("=")[0].lstrip("+~") for word in args.overrides}
    adopted = [f"{key}={number}" for key, number in stored.items() if number and key not in given]
    args.overrides, args.typed = [*args.overrides, *adopted], [*args.typed, *adopted]


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


def fixed_settings(config: Config, words: Sequence[str]) -> dict[str, Any]:
    """Return the keys of the section `evaluation` that hold, where they are typed, whatever was selected."""
    typed_keys = {word.lstrip("+").partition("=")[0] for word in words}
    overridden = {key for key in OVERRIDABLE if f"evaluation.{key}" in typed_keys}
    return config.evaluation.model_dump(include=overridden)


def compose_overrides(overrides: Sequence[str], args: argparse.Namespace | None = None) -> Config:
    """Return configs/ merged with the overrides only; with `args`, kept in their workspace."""
    if args is None:
        from slicewise.config.compose import compose

        return compose(list(overrides))
    args.configs = ConfigCache(Workspace(expand_user(args.workspace)).state / "configs")
    config: Config = args.configs.compose(list(overrides))
    return config


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
    names = {option: split_names(getattr(args, option)) for option in ("only", "force", "skip")}
    names |= {"from": split_names([args.start or ""]), "until": split_names([args.until or ""])}
    for option, named in names.items():
        if is_typed(args, f"--{option}") and not named:
            listed = ", ".join(step.name for step in steps)
            raise UsageError(f"--{option} names no step; the steps are {listed}")
        _check_names(option, named, steps, config)
    refuse_together(args, "--only", ("--mode", "--from", "--until"), "names all steps to run")
    groups = _MODES[args.mode]
    if groups and not any(step.group in groups for step in steps):
        raise UsageError(f"--mode {args.mode} serves one model, not one per fold; leave --folds out")
    scope = (("mode", args.mode), ("from", args.start), ("until", args.until))
    return select(
        steps,
        groups=groups,
        scope=" ".join(f"--{option} {text}" for option, text in scope if text),
        start=next(iter(names.pop("from")), None),
        until=next(iter(names.pop("until")), None),
        **names,
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


def split_names(texts: Sequence[str]) -> list[str]:
    """Return the names in texts such as `split,train`."""
    return [name for text in texts for name in map(str.strip, text.split(",")) if name]


def command_line(args: argparse.Namespace) -> str:
    """Return the command as it was typed, quoted for the shell."""
    return _shell_command(args.typed)


def command_for(workspace: Workspace, *words: str) -> str:
    """Return a command on this workspace, for the current folder."""
    is_default = workspace.root == (Path.cwd() if _is_script() else default_workspace().absolute())
    return _shell_command([*words, *([] if is_default else ["--workspace", str(workspace.root)])])


def resume_command(args: argparse.Namespace, finished: Set[str], steps: Sequence[Step[Any]]) -> str:
    """Return the command that resumes a stopped one: it does not force the steps that have finished."""
    forced = expand(split_names(args.force), steps)
    if not finished & {*forced}:
        return command_line(args)
    words, remaining = (
        replace_option(args.typed, "--force"),
        [name for name in forced if name not in finished],
    )
    return _shell_command([words[0], *(["--force", ",".join(remaining)] if remaining else []), *words[1:]])


def _shell_command(typed: Sequence[str]) -> str:
    program = Path(sys.argv[0])
    if _is_script() and typed[0] == "run":
        words = [_shell_name(Path(sys.executable), "python"), str(program), *typed[1:]]
    else:
        words = [_shell_name(program, "slicewise"), *typed]
    return redact(shlex.join(words))


def _is_script() -> bool:
    """Whether a script stands for `slicewise run`; it does not read $SLICEWISE_WORKSPACE."""
    program = Path(sys.argv[0])
    return program.suffix == ".py" and program.name != "__main__.py"


def _shell_name(program: Path, name: str) -> str:
    """Return the program as the shell needs it: the bare name only where PATH leads to this very program."""
    if not program.is_file() or program.suffix == ".py" or shutil.which(name) == str(program):
        return name
    return str(program.relative_to(Path.cwd()) if program.is_relative_to(Path.cwd()) else program)
