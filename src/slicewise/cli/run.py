"""`slicewise run`: the pipeline, or the part of it that is out of date, in a workspace held for it."""

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, get_args

from slicewise.cli import options
from slicewise.cli import plan as plan_verb
from slicewise.cluster.lease import active_plan, refuse_beside_jobs
from slicewise.cluster.plan import Where
from slicewise.config.export import update_merged
from slicewise.config.schema import Config
from slicewise.config.schema.base import plain
from slicewise.core.activity import publish_progress
from slicewise.core.console import paint, say
from slicewise.core.disk import explain_disk_error
from slicewise.core.errors import SliceWiseError
from slicewise.core.hashing import digest
from slicewise.core.log_file import LogFile
from slicewise.core.redact import redact
from slicewise.core.signals import handle_signals
from slicewise.domain.wording import reword
from slicewise.engine.lock import exclusive_lock
from slicewise.engine.plan import Action, Decision, Selection, check_settings, plan
from slicewise.engine.record import RECORD_NAME, RunRecord, StepRecord, git_commit, package_versions
from slicewise.engine.runner import Runner
from slicewise.engine.step import Step
from slicewise.engine.workspace import Workspace
from slicewise.steps import pipeline
from slicewise.steps.demo import demo_url
from slicewise.workflow.observers import make_observers
from slicewise.workflow.settings import recipe_wording

log = logging.getLogger("slicewise")
_COMPUTES = ("train", "evaluate")
"""Groups of steps that run the model"""
_NO_RESULT = ("runtime", "tracking", "cluster")
"""Sections that change no output"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    plan_verb.add_arguments(parser)
    options.add_run_options(parser)
    add_on_option(parser)


def add_on_option(parser: argparse.ArgumentParser) -> None:
    """Add --on, which says where the work runs."""
    text = "slurm: submit the steps as jobs; ray: run them on workers of Ray (docs/howto/cluster.md)"
    parser.add_argument("--on", choices=get_args(Where), help=text)


def execute(args: argparse.Namespace) -> int:
    if args.dry_run and not args.on:
        return plan_verb.execute(args)
    config = options.compose_from(args)
    selection = options.selection_from(args, config)
    workspace = options.workspace_from(args)
    if args.on:
        return _run_on_cluster(args, config, selection, workspace)
    with hold_workspace(args, workspace) as log_path:
        args.configs.keep()
        show_summary(run_pipeline(args, config, selection, workspace, log_path), config, workspace)
    return 0


def _run_on_cluster(
    args: argparse.Namespace, config: Config, selection: Selection, workspace: Workspace
) -> int:
    """Do here what needs the network or costs nothing, and the rest as jobs; show the results at the end."""
    from slicewise.cli import on_cluster

    if args.on == "ray":
        from slicewise.cluster.ray_workers import require_ray

        require_ray()
    selection = on_cluster.without_services(config, selection, workspace)
    if args.dry_run:
        plan_verb.print_plan(on_cluster.decide(config, selection, workspace), config)
        on_cluster.show_scripts(config, selection, workspace, record_header(args, config), args.on)
        return 0
    with hold_workspace(args, workspace, beside_jobs=True) as log_path:
        args.configs.keep()
        if folder := active_plan(workspace):
            on_cluster.check_goal(folder, config, selection, args.on)
        else:
            decisions = on_cluster.decide(config, selection, workspace)
            check_settings(decisions, config)
            local = on_cluster.select_local(decisions, selection)
            record = run_pipeline(args, config, local or selection, workspace, log_path)
            if local is None:
                show_summary(record, config, workspace)
                return 0
            header = record_header(args, config)
            folder = on_cluster.seal_plan(config, selection, workspace, header, args.on)
        if args.on == "slurm":
            on_cluster.submit_jobs(folder, config)
            return 0
        on_cluster.run_on_ray(folder, config)
        folder.end()
        record = run_pipeline(args, config, on_cluster.reuse(selection), workspace, log_path)
        show_summary(record, config, workspace)
    return 0


@contextmanager
def hold_workspace(
    args: argparse.Namespace, workspace: Workspace, *, beside_jobs: bool = False
) -> Iterator[Path]:
    """Hold the workspace while the block runs: lock, progress, log and stop signals; yield the log's path.

    Raises:
        UsageError: jobs work in it, and the block does not know how to work beside them.
    """
    command = options.command_line(args)
    with (
        exclusive_lock(workspace.state / "lock", args.wait) as workspace.fence,
        publish_progress(workspace.state, command),
    ):
        path = workspace.root / "logs" / f"run-{datetime.now():%Y%m%d-%H%M%S-%f}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = LogFile(path)
        handler.setFormatter(_RedactingFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
        log.setLevel(logging.INFO)
        log.addHandler(handler)
        log.info("command: %s", command)
        try:
            with handle_signals():
                if not beside_jobs:
                    refuse_beside_jobs(workspace)
                if active_plan(workspace) is None:
                    workspace.sweep()
                yield path
        finally:
            log.removeHandler(handler)
            handler.close()


def run_pipeline(
    args: argparse.Namespace,
    config: Config,
    selection: Selection,
    workspace: Workspace,
    log_path: Path,
    steps: Sequence[Step[Config]] = (),
) -> RunRecord:
    """Run one configuration in a workspace that is held; return its record.

    `steps` are those of the configuration where there are none.

    Raises:
        SliceWiseError: a step failed, or the command cannot be carried out.
    """
    steps = steps or plan_verb.build_steps(config, workspace)
    observers = make_observers(config, workspace)
    record = RunRecord(
        workspace.root / RECORD_NAME,
        record_header(args, config),
        {step.name: StepRecord() for step in steps},
        continuation=lambda finished: options.resume_command(args, finished, steps),
    )
    hashes = workspace.load_hashes()
    # The plan comes first: a command that cannot be carried out fails before any work is done.
    decisions = plan(steps, config, workspace, hashes, selection)
    plan_verb.print_plan(decisions, config)
    check_settings(decisions, config)
    _require_device(decisions, config)
    say()
    workspace.remember_steps(steps)
    if getattr(args, "config", None) is None:  # else every key is in a file, and configs/ may not be there
        _write_merged(workspace)
    try:
        runner = Runner(steps, config, workspace, hashes, record, partial(_confirm, args), observers)
        runner.execute(selection)
    except (SliceWiseError, KeyboardInterrupt) as error:
        _record_failure(record, error)
        raise
    except Exception as error:
        explained = explain_disk_error(error, workspace.root)  # raised between two steps
        if explained is None:
            log.exception("unexpected error")
        _record_failure(record, explained or error)
        raise explained or SliceWiseError(
            f"{type(error).__name__}: {error}\nthe details are in {log_path}"
        ) from error
    return record


def _require_device(decisions: Sequence[Decision[Config]], config: Config) -> None:
    """Raise ConfigError where a step is going to need a device that is not here."""
    runs = any(each.action is Action.RUN and each.step.group in _COMPUTES for each in decisions)
    if runs and config.runtime.device not in ("auto", "cpu"):
        from slicewise.compute.device import choose_device

        choose_device(config.runtime.device)


def _write_merged(workspace: Workspace) -> None:
    from slicewise.config.folders import find_configs_dir

    final, note = workspace.root / "configs" / "final", workspace.state / "final.json"
    update_merged(find_configs_dir(), final, note, lambda mode: options.compose_overrides([f"modes={mode}"]))


def record_header(args: argparse.Namespace, config: Config) -> dict[str, Any]:
    """Return what the record of a run says about its settings and versions."""
    return {
        "mode": args.mode,
        "training_mode": config.training_mode,
        "data_set": {"name": config.data.name, "synthetic": config.data.synthetic},
        "command": options.command_line(args),
        "config_fingerprint": digest({k: v for k, v in plain(config).items() if k not in _NO_RESULT}),
        "git_commit": git_commit(Path(__file__)),
        "versions": package_versions(),
    }


def _record_failure(record: RunRecord, error: BaseException) -> None:
    if record.error is None:  # raised between two steps
        record.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        record.error = {"step": None, "type": type(error).__name__, "message": str(error)}
    log.error("stopped: %s", record.error)
    record.save_failed()
    say()
    say(f"stopped; finished steps are kept. To continue: {record.continue_with}", "warn")


def _confirm(args: argparse.Namespace, question: str) -> bool:
    """Return whether the user agrees; True, as planned, where no questions are wanted or possible."""
    if args.yes or args.no_input or not sys.stdin.isatty():
        return True
    try:
        answer = input(paint(f"{question} [y/N] ", "warn"))
    except EOFError:  # Ctrl-D
        return False
    return answer.strip().lower() in ("y", "yes")


class _RedactingFormatter(logging.Formatter):
    """Formats a record, its traceback included, and then removes the credentials."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


def _has_content(path: Path) -> bool:
    """Return whether it is a file, or a folder that holds something: a recipe without classes has no maps."""
    return path.is_file() or (path.is_dir() and any(not file.name.startswith(".") for file in path.iterdir()))


def show_summary(
    record: RunRecord, config: Config, workspace: Workspace, pipeline_steps: Sequence[Step[Config]] = ()
) -> None:
    """Print the last lines of a run that has completed: steps, scores, outputs, and how to stop the demo."""
    steps = record.steps
    available = {name: step for name, step in steps.items() if step.status in ("completed", "reused")}
    ran = [name for name, step in available.items() if step.status == "completed"]
    seconds = sum(step.duration_seconds for step in steps.values())
    say()
    work = f"ran {', '.join(ran)}" if ran else "nothing had to run"
    say(f"{work}; {len(available) - len(ran)} reused; {seconds:.1f} s", "good")
    evaluated = available.get("evaluate") or available.get("cross_validation")
    if evaluated and evaluated.metrics:
        kind = "synthetic test patients" if config.data.synthetic else "test patients"
        with recipe_wording(config):
            kind = reword(kind)
        where = f"held-out {kind} of {config.data.name} ({config.training_mode})"
        if config.split.external:
            where = f"{kind} of {config.data.name}, which the model was not trained on"
        say(f"\nOn {where}:")
        for line in evaluated.metrics["headlines"]:
            say(f"  {line}")
    for step in reversed(pipeline_steps or pipeline(config)):  # other outputs may have other settings
        for path, text in step.highlights.items():
            if step.name in available and _has_content(workspace.home(path)):
                say(f"  {path:<44} {text}", "dim")
    say(f"  {RECORD_NAME:<44} the record of this run", "dim")
    if "demo" in available and (url := demo_url(workspace)):
        say(f"\nThe demo runs at {url}", "header")
        say(f"  to stop it: {options.command_for(workspace, 'demo', 'stop')}")
