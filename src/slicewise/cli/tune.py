"""`slicewise tune KEY=SPACE...`: search better settings on the validation patients, trial by trial.

The default recipe is scored first, then trials of other values. The test patients stay sealed until the
winner is named: no trial runs a step that opens them.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from slicewise.cli import options
from slicewise.cli.run import hold_workspace, record_header, run_pipeline, show_summary
from slicewise.cli.short_options import SHORT_OPTIONS, keys_of
from slicewise.cli.tune_report import OUT, write_report
from slicewise.cli.tune_trials import (
    TrialJob,
    TrialPlace,
    describe,
    local_trials,
    prepare_data,
    ray_trials,
    run_trial,
    run_trials,
    slurm_trials,
    trial_namespace,
    with_threads,
)
from slicewise.config.export import flatten_config
from slicewise.config.keys import is_known, suggest
from slicewise.config.schema import Config
from slicewise.config.search_space import Choice, Parameter, parse_space
from slicewise.core.console import say
from slicewise.core.errors import ConfigError, TrainingError, UsageError
from slicewise.core.hashing import digest
from slicewise.engine.shelf import ShelfWorkspace
from slicewise.engine.workspace import Workspace
from slicewise.steps import pipeline
from slicewise.workflow.demand import check_model
from slicewise.workflow.tuning import (
    PrunerName,
    StudySettings,
    TrialResult,
    TrialRow,
    TuningStudy,
    explained_storage,
    require_optuna,
)

if TYPE_CHECKING:
    from optuna import Trial

_RATES: Final = ("training.optimizer.lr", "learning_rate", "lr")
"""Other names of --lr: the learning rate of all that a stage trains"""
_FIXED: Final = ("split", "data", "scale", "tasks")
"""Sections that decide who is validated, and on what: with others, scores could not be compared"""
_UNTRAINED: Final = ("evaluation", "serving", "runtime", "tracking")
"""Sections that change no trained model"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_config_options(parser)
    parser.usage = "slicewise tune KEY=SPACE [KEY=SPACE ...] [options] [key=value ...]"
    parser.epilog = (
        "SPACE is log(1e-5,1e-2), uniform(0,0.5), int(2,8), log_int(4,64) or choice(a,b,null), in quotes for "
        "the shell; --lr, --batch-size and the other short options take one too."
    )
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="trials in all (default: 20)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="trials at a time (default: 1)")
    pruners = get_args(PrunerName)
    text = "trials are jobs of Slurm or tasks of Ray, as cluster.train asks for (docs/howto/cluster.md)"
    parser.add_argument("--on", choices=("slurm", "ray"), help=text)
    text = "what ends a trial early (default: median)"
    parser.add_argument("--pruner", choices=pruners, default=pruners[0], help=text)
    text = "then evaluate the default recipe and the winner on the test patients, and compare them"
    parser.add_argument("--evaluate-winner", action="store_true", help=text)
    options.add_run_options(parser)
    parser.set_defaults(mode="full", start=None, until="evaluate", only=[], skip=[], force=[])


@dataclass(frozen=True)
class _Tuning:
    """What is tuned, from the command line.

    Attributes:
        args: those of the default recipe; `overrides` has no search space.
        words: the overrides of the default recipe.
    """

    args: argparse.Namespace
    words: list[str]
    parameters: tuple[Parameter, ...]
    base: Config
    workspace: Workspace

    def compose(self, overrides: Sequence[str]) -> Config:
        return options.compose_from(trial_namespace(self.args, [*self.words, *overrides]))

    def overrides(self, values: Mapping[str, str]) -> list[str]:
        return [line for each in self.parameters for line in each.overrides(values[each.name])]

    def _with_threads(self, config: Config) -> Config:
        return config if self.args.on else with_threads(config, self.args.jobs)

    def job(self, config: Config, title: str, **more: Any) -> TrialJob:
        header = record_header(self.args, config)
        name = digest(flatten_config(config))[:16]
        path = self.workspace.state / "tune" / f"{name}.json"
        workspace = ShelfWorkspace(self.workspace.root, self.workspace.fence)
        return TrialJob(workspace, self._with_threads(config), header, title, path, **more)


def execute(args: argparse.Namespace) -> int:
    require_optuna()
    if args.on == "ray":
        from slicewise.cluster.ray_workers import require_ray

        require_ray()
    for name in ("trials", "jobs"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} {getattr(args, name)}: at least 1 is needed")
    tuning = _read_command(args)
    if args.dry_run:
        _show_plan(tuning)
        return 0
    home = tuning.workspace.home(OUT)
    with hold_workspace(args, tuning.workspace) as log_path, explained_storage(home):
        try:
            with _place(tuning) as place:
                default, study = _run_study(tuning, place)
        except KeyboardInterrupt:
            say(f"\nstopped; finished trials are kept. To continue: {options.command_line(args)}", "warn")
            raise
        winner = _winner(default, study.rows())
        config = tuning.compose(tuning.overrides(winner.values)) if winner.number else tuning.base
        write_report(tuning.workspace, args, tuning.base, config, study, default, winner)
        if args.evaluate_winner:
            _evaluate(tuning, winner, config, log_path)
    return 0


def _read_command(args: argparse.Namespace) -> _Tuning:
    """Return what is tuned; every end of a range and every choice is composed and checked.

    Raises:
        UsageError: there is no search space, or one cannot be used.
        ConfigError: a key is unknown, or one of the values is invalid.
    """
    parameters = tuple(_take_spaces(args))
    if not parameters:
        raise UsageError(
            "nothing to search: write a space in place of a value, such as --lr 'log(1e-4,1e-2)' or "
            "'model.encoder=choice(resnet18,resnet34)'"
        )
    is_plain = not args.folds
    words = options.overrides_of(args) if is_plain else []
    base = options.compose_from(trial_namespace(args, words)) if is_plain else None
    if base is None or base.split.folds or base.training.minutes:
        raise UsageError(
            "tune scores trials on one split, with epochs that stay; leave --folds and --minutes out"
        )
    tuning = _Tuning(args, words, parameters, base, options.workspace_from(args))
    for parameter in parameters:
        _check_parameter(tuning, parameter)
    return tuning


def _take_spaces(args: argparse.Namespace) -> Iterator[Parameter]:
    """Yield the parameters of the command line, and leave only plain values in `args`."""
    spaces, plain_words = list[str](), list[str]()
    for word in args.overrides:
        key, equals, value = word.partition("=")
        space = parse_space(key, value) if equals else None
        (plain_words if space is None else spaces).append(word)
    args.overrides = plain_words
    for option in SHORT_OPTIONS:
        name = option.removeprefix("--").replace("-", "_")
        value = getattr(args, name, None)
        if value is not None and (space := parse_space(option, str(value))):
            setattr(args, name, None)
            yield Parameter(name, tuple(keys_of(option, args)), space, str(value))
    for word in spaces:
        key, _, value = word.lstrip("+").partition("=")
        keys = tuple(keys_of("--lr", args)) if key in _RATES else (key,)
        space = parse_space(key, value)
        assert space is not None
        if given := [line for line in plain_words if line.lstrip("+~").partition("=")[0] in keys]:
            raise UsageError(f"{word} and {given[0]} set the same; leave one of them out")
        yield Parameter(key, keys, space, value)


def _check_parameter(tuning: _Tuning, parameter: Parameter) -> None:
    """Refuse a parameter with invalid values, one that changes who is validated, or one without effect."""
    for key in parameter.keys:
        if "." in key and not is_known(key):
            hint = suggest(key) or "; `slicewise config` prints all keys"
            raise ConfigError(f"{key}: unknown key{hint}; --lr 'log(1e-4,1e-2)' searches all learning rates")
    base, has_effect = tuning.base, False
    for text in parameter.space.texts:
        config = tuning.compose(parameter.overrides(text))
        changed = [name for name, _ in base if getattr(base, name) != getattr(config, name)]
        monitors = {(each.final_stage, each.stages[each.final_stage].monitor) for each in (base, config)}
        if fixed := [name for name in changed if name in _FIXED] or (
            ["the monitor"] if len(monitors) > 1 else []
        ):
            raise UsageError(
                f"{parameter.name}={text} changes {', '.join(fixed)}: trials with other patients or another "
                "score cannot be compared; compare such runs with `slicewise compare`"
            )
        if "model" in changed:
            check_model(config, pretrained=config.training.start_from is None)
        has_effect |= any(name not in _UNTRAINED for name in changed)
    if not has_effect:
        raise UsageError(
            f"{parameter.name} changes nothing that is trained; leave it out, or give other values"
        )


def _show_plan(tuning: _Tuning) -> None:
    say(
        f"{tuning.args.trials} trials of train.{tuning.base.final_stage}, after the default recipe:", "header"
    )
    for parameter in tuning.parameters:
        keys = "" if parameter.keys == (parameter.name,) else f"  ({', '.join(parameter.keys)})"
        say(f"  {parameter.name}={parameter.typed}{keys}")


def _place(tuning: _Tuning) -> AbstractContextManager[TrialPlace]:
    """Return where the trials run."""
    if tuning.args.on == "slurm":
        return slurm_trials(tuning.base, tuning.workspace, tuning.args.jobs)
    if tuning.args.on == "ray":
        return ray_trials(tuning.base, tuning.workspace, tuning.args.jobs)
    return local_trials(tuning.args.jobs)


def _run_study(tuning: _Tuning, place: TrialPlace) -> tuple[TrialResult, TuningStudy]:
    """Run the default recipe and all trials that are missing; return its result and the study."""
    args, base, workspace = tuning.args, tuning.base, tuning.workspace
    workspace.remember_steps(pipeline(base))
    say("default recipe", "header")
    log_path = tuning.workspace.root / "logs" / "tune-default.log" if args.on else None
    job = tuning.job(base, "default recipe", log_path=log_path)
    default = place.submit(job).result() if args.on else run_trial(job)
    if default.state == "failed":
        raise TrainingError(f"the default recipe failed: {default.reason}")
    say(f"  default recipe {describe(default)}", "good")
    spaces = [(each.name, each.keys, repr(each.space)) for each in tuning.parameters]
    name = digest([default.fingerprint, spaces, args.pruner, base.seed])[:16]
    epochs = base.stages[base.final_stage].epochs
    settings = StudySettings(workspace.home(OUT), name, tuning.parameters, base.seed, args.pruner, epochs)
    study = TuningStudy(settings)
    if (values := _default_values(tuning)) is not None:
        study.add_default(default, values)
    judge, is_elsewhere = place.judges(settings), args.on or args.jobs > 1

    def make_job(trial: "Trial", number: int) -> TrialJob | TrialResult:
        values = study.values(trial)
        listed = ", ".join(f"{key}={_short(text)}" for key, text in values.items())
        title = f"trial {number} of {args.trials}: {listed}"
        try:
            config = tuning.compose(tuning.overrides(values))
        except ConfigError as error:  # each value is valid, and together they are not
            say(f"\n{title}", "header")
            return TrialResult("failed", reason=str(error).splitlines()[-1].strip())
        log_path = workspace.root / "logs" / f"tune-{name[:8]}-{number:03d}.log" if is_elsewhere else None
        job = tuning.job(config, title, judge=judge(trial.number), log_path=log_path)
        if is_elsewhere:
            say(f"\n{title}", "header")
            prepare_data(job)
        return job

    run_trials(study, args.trials, args.jobs, place, make_job)
    return default, study


def _short(text: str) -> str:
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


def _default_values(tuning: _Tuning) -> dict[str, Any] | None:
    """Return the values of the default recipe as the study has them; None where one is not in its space."""
    leaves, values = flatten_config(tuning.base), dict[str, Any]()
    for parameter in tuning.parameters:
        space = parameter.space
        if isinstance(space, Choice):
            same = [text for text in space.texts if tuning.compose(parameter.overrides(text)) == tuning.base]
            if not same:
                return None
            values[parameter.name] = same[0]
            continue
        current = {leaves.get(key) for key in parameter.keys}
        value = current.pop()
        if current or not isinstance(value, int | float) or not space.low <= value <= space.high:
            return None
        values[parameter.name] = value
    return values


def _winner(default: TrialResult, rows: Sequence[TrialRow]) -> TrialRow:
    """Return the trial with the highest score, the default recipe where none is better."""
    best = TrialRow(0, {}, default)
    for row in rows:
        if row.result.state == "complete" and (row.result.score or 0.0) > (best.result.score or 0.0):
            best = row
    return best


def _evaluate(tuning: _Tuning, winner: TrialRow, config: Config, log_path: Path) -> None:
    """Evaluate the default recipe and the winner on the test patients, in this order, and compare them."""
    from slicewise.cli.tune_report import compare_on_test
    from slicewise.evaluation.runs import read_run
    from slicewise.steps.evaluate import HOMES

    if not winner.number:
        say("\nno trial was better than the default recipe: nothing to compare on the test patients", "warn")
        return
    workspace, runs = tuning.workspace, []
    overrides = tuning.overrides(winner.values)
    for name, each, words in (("default", tuning.base, []), ("winner", config, overrides)):
        say(f"\n{name} on the test patients", "header")
        args = trial_namespace(tuning.args, [*tuning.words, *words])
        record = run_pipeline(args, each, options.selection_from(args, each), workspace, log_path)
        runs.append(read_run(workspace.home(HOMES["evaluation"]), name, each.seed))
    show_summary(record, config, workspace)
    compare_on_test(workspace, tuning.args, config, runs)
