"""`slicewise run`: the pipeline, or the part of it that is out of date."""

import argparse
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from slicewise.cli import plan as plan_verb
from slicewise.cli.invocation import command_line, continuation
from slicewise.cli.options import (
    add_config_options,
    add_selection_options,
    add_wait_option,
    build_steps,
    compose_from,
    selection_from,
    workspace_from,
)
from slicewise.cli.summary import show_summary
from slicewise.config.schema import Config
from slicewise.core.console import LogFile, paint, say
from slicewise.core.disk import explain_disk_error
from slicewise.core.errors import SliceWiseError
from slicewise.core.hashing import digest
from slicewise.core.redact import redact
from slicewise.core.signals import handle_signals
from slicewise.engine.failures import save_failed_record
from slicewise.engine.lock import exclusive_lock
from slicewise.engine.plan import plan
from slicewise.engine.progress import publish_progress
from slicewise.engine.record import RECORD_NAME, RunRecord, StepRecord
from slicewise.engine.runner import Runner
from slicewise.engine.selection import Selection
from slicewise.engine.workspace import Workspace

log = logging.getLogger("slicewise")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_config_options(parser)
    add_selection_options(parser)
    add_dry_run_option(parser)
    add_wait_option(parser)
    add_prompt_options(parser)


def add_dry_run_option(parser: argparse.ArgumentParser) -> None:
    """Add how to see what a command would do."""
    parser.add_argument("--dry-run", action="store_true", help="print the plan and stop")


def add_prompt_options(parser: argparse.ArgumentParser) -> None:
    """Add how the questions of a run are answered."""
    answers = parser.add_mutually_exclusive_group()
    answers.add_argument("--yes", action="store_true", help="answer every question with yes")
    answers.add_argument("--no-input", action="store_true", help="ask nothing and do what the plan says")


def execute(args: argparse.Namespace) -> int:
    if args.dry_run:
        return plan_verb.execute(args)
    config = compose_from(args)
    selection = selection_from(args, config.split.folds)
    workspace = workspace_from(args)
    with hold_workspace(args, workspace) as log_path:
        show_summary(run_pipeline(args, config, selection, workspace, log_path), config, workspace)
    return 0


@contextmanager
def hold_workspace(args: argparse.Namespace, workspace: Workspace) -> Iterator[Path]:
    """Hold the workspace while the block runs: lock, progress, log and stop signals; yield the log's path."""
    lock = exclusive_lock(workspace.state / "lock", args.wait)
    progress_file = publish_progress(workspace.state, command_line(args))
    with lock, progress_file, _log_file(workspace, args) as log_path, handle_signals():
        workspace.sweep()
        yield log_path


def run_pipeline(
    args: argparse.Namespace, config: Config, selection: Selection, workspace: Workspace, log_path: Path
) -> RunRecord:
    """Run one configuration in a workspace that is held; return its record.

    Raises:
        SliceWiseError: a step failed, or the command cannot be obeyed.
    """
    from slicewise.workflow.tracking import make_tracker

    steps = build_steps(config, workspace)
    tracker = make_tracker(config, workspace)
    record = _record(args, config, workspace)
    hashes = workspace.load_hashes()
    # A command that cannot be obeyed is refused before any work is done.
    plan_verb.show(plan(steps, config, workspace, hashes, selection), config)
    say()
    _write_final_configs(workspace)
    try:
        runner = Runner(steps, config, workspace, hashes, record, _confirm(args), tracker)
        runner.execute(selection)
    except (SliceWiseError, KeyboardInterrupt) as error:
        _record_failure(record, error)
        raise
    except Exception as error:
        explained = explain_disk_error(error, workspace.root)  # met between two steps
        if explained is not None:
            _record_failure(record, explained)
            raise explained from error
        log.exception("unexpected error")
        _record_failure(record, error)
        raise SliceWiseError(f"{type(error).__name__}: {error}\nthe details are in {log_path}") from error
    return record


def _record_failure(record: RunRecord, error: BaseException) -> None:
    if record.error is None:  # it happened between two steps
        record.status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        record.error = {"step": None, "type": type(error).__name__, "message": str(error)}
    log.error("stopped: %s", record.error)
    save_failed_record(record)
    say()
    say(f"stopped; finished steps are kept. To continue: {record.continue_with}", "warn")


def _record(args: argparse.Namespace, config: Config, workspace: Workspace) -> RunRecord:
    from slicewise.engine.provenance import git_commit, package_versions
    from slicewise.workflow.step_names import step_names

    header: dict[str, Any] = {
        "mode": args.mode,
        "training_mode": config.training_mode,
        "data_set": {"name": config.data.name, "synthetic": config.data.synthetic},
        "command": command_line(args),
        "config_fingerprint": digest(config.model_dump(mode="json", exclude={"runtime", "tracking"})),
        "git_commit": git_commit(Path(__file__)),
        "versions": package_versions(),
    }
    folds = config.split.folds
    return RunRecord(
        workspace.root / RECORD_NAME,
        header,
        {name: StepRecord() for name in step_names(folds)},
        continuation=lambda finished: continuation(args, finished, folds),
    )


def _write_final_configs(workspace: Workspace) -> None:
    from slicewise.config.compose import compose, find_configs_dir
    from slicewise.config.export import update_merged

    folder = workspace.root / "configs" / "final"
    note = workspace.state / "final.json"
    update_merged(find_configs_dir(), folder, note, lambda mode: compose([f"modes={mode}"]))


def _confirm(args: argparse.Namespace) -> Any:
    def ask(question: str) -> bool:
        if args.yes or args.no_input or not sys.stdin.isatty():
            return True  # as planned
        try:
            answer = input(paint(f"{question} [y/N] ", "warn"))
        except EOFError:  # Ctrl-D
            return False
        return answer.strip().lower() in ("y", "yes")

    return ask


class _RedactingFormatter(logging.Formatter):
    """Formats a record, its traceback included, and then takes the credentials out."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


@contextmanager
def _log_file(workspace: Workspace, args: argparse.Namespace) -> Iterator[Path]:
    """Write what happens to logs/run-<time>.log while the block runs."""
    path = workspace.root / "logs" / f"run-{datetime.now():%Y%m%d-%H%M%S-%f}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = LogFile(path)
    handler.setFormatter(_RedactingFormatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    root = logging.getLogger("slicewise")
    root.setLevel(logging.INFO)
    root.addHandler(handler)
    log.info("command: %s", command_line(args))
    try:
        yield path
    finally:
        root.removeHandler(handler)
        handler.close()
