"""A pipeline run in a workspace that is held for it, and the plan of one; shared by run, plan and ablate."""

import argparse
import logging
import shutil
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from slicewise.cli.invocation import command_line, resume_command
from slicewise.cli.options import compose_from, selection_from, workspace_from
from slicewise.config.export import update_merged
from slicewise.config.schema import Config
from slicewise.core.console import LogFile, Tone, paint, say
from slicewise.core.disk import expand_user, explain_disk_error
from slicewise.core.errors import ConfigError, SliceWiseError
from slicewise.core.hashing import digest
from slicewise.core.redact import redact
from slicewise.core.signals import handle_signals
from slicewise.engine.lock import exclusive_lock, lock_holder
from slicewise.engine.plan import Action, Decision, plan
from slicewise.engine.progress import publish_progress
from slicewise.engine.provenance import git_commit, package_versions
from slicewise.engine.record import RECORD_NAME, RunRecord, StepRecord
from slicewise.engine.runner import Runner
from slicewise.engine.selection import Selection
from slicewise.engine.step import Step
from slicewise.engine.workspace import Workspace
from slicewise.steps import pipeline
from slicewise.workflow.observers import make_observers

log = logging.getLogger("slicewise")

_TONES: dict[Action, Tone] = {
    Action.RUN: "header",
    Action.CHECK: "warn",
    Action.REUSE: "good",
    Action.SKIP: "dim",
}
_GAP = 10
"""Columns between a step's name and the reason: the action and the spaces around it."""


def plan_pipeline(args: argparse.Namespace) -> None:
    """Print what a run with these arguments would do."""
    config = compose_from(args)
    workspace = workspace_from(args)
    hashes = workspace.load_hashes()
    selection = selection_from(args, config)
    decisions = plan(_build_steps(config, workspace), config, workspace, hashes, selection)
    # A run in progress keeps the same hashes, and newer ones: then nothing is written.
    if workspace.state.is_dir() and lock_holder(workspace.state / "lock") is None:
        with suppress(OSError):  # they only save time
            workspace.save_hashes(hashes)
    _print_plan(decisions, config)


@contextmanager
def hold_workspace(args: argparse.Namespace, workspace: Workspace) -> Iterator[Path]:
    """Hold the workspace while the block runs: lock, progress, log and stop signals; yield the log's path."""
    with (
        exclusive_lock(workspace.state / "lock", args.wait),
        publish_progress(workspace.state, command_line(args)),
    ):
        path = workspace.root / "logs" / f"run-{datetime.now():%Y%m%d-%H%M%S-%f}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = LogFile(path)
        handler.setFormatter(_RedactingFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
        log.setLevel(logging.INFO)
        log.addHandler(handler)
        log.info("command: %s", command_line(args))
        try:
            with handle_signals():
                workspace.sweep()
                yield path
        finally:
            log.removeHandler(handler)
            handler.close()


def run_pipeline(
    args: argparse.Namespace, config: Config, selection: Selection, workspace: Workspace, log_path: Path
) -> RunRecord:
    """Run one configuration in a workspace that is held; return its record.

    Raises:
        SliceWiseError: a step failed, or the command cannot be carried out.
    """
    from slicewise.config.compose import compose, find_configs_dir

    steps = _build_steps(config, workspace)
    observers = make_observers(config, workspace)
    record = _new_record(args, config, workspace, steps)
    hashes = workspace.load_hashes()
    # The plan comes first: a command that cannot be carried out fails before any work is done.
    _print_plan(plan(steps, config, workspace, hashes, selection), config)
    say()
    workspace.remember_steps(steps)
    update_merged(
        find_configs_dir(),
        workspace.root / "configs" / "final",
        workspace.state / "final.json",
        lambda mode: compose([f"modes={mode}"]),
    )
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


def _build_steps(config: Config, workspace: Workspace) -> tuple[Step[Config], ...]:
    """Return the steps of a configuration.

    Raises:
        ConfigError: the run would replace the checkpoint that it starts from, and never be up to date.
    """
    steps = pipeline(config)
    start = config.training.start_from
    homes = {workspace.home(home).resolve() for step in steps for home in step.homes.values()}
    if start is not None and homes & {*expand_user(start).resolve().parents}:
        raise ConfigError(
            f"training.start_from={start} is an output of this workspace, which the run replaces; copy it to "
            "another place first, or run in another --workspace"
        )
    return steps


def _print_plan(decisions: Sequence[Decision[Config]], config: Config) -> None:
    """Print one line per step, the reason wrapped below itself."""
    synthetic = ", synthetic" if config.data.synthetic else ""
    say(f"Plan for {config.training_mode} on {config.data.name}{synthetic}", "header")
    width = max(60, min(shutil.get_terminal_size().columns, 120))
    longest = max(len(decision.step.name) for decision in decisions)
    indent = longest + _GAP
    for decision in decisions:
        lines = textwrap.wrap(
            decision.reason, width - indent, break_on_hyphens=False, break_long_words=False
        ) or [""]
        action = paint(f"{decision.action.value:<7}", _TONES[decision.action])
        head = f"  {decision.step.name:<{longest}} {action}{lines[0]}"
        say("\n".join([head, *(" " * indent + line for line in lines[1:])]))


def _new_record(
    args: argparse.Namespace, config: Config, workspace: Workspace, steps: Sequence[Step[Config]]
) -> RunRecord:
    header: dict[str, Any] = {
        "mode": args.mode,
        "training_mode": config.training_mode,
        "data_set": {"name": config.data.name, "synthetic": config.data.synthetic},
        "command": command_line(args),
        "config_fingerprint": digest(config.model_dump(mode="json", exclude={"runtime", "tracking"})),
        "git_commit": git_commit(Path(__file__)),
        "versions": package_versions(),
    }
    return RunRecord(
        workspace.root / RECORD_NAME,
        header,
        {step.name: StepRecord() for step in steps},
        continuation=lambda finished: resume_command(args, finished, steps),
    )


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
