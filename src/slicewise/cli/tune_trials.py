"""The trials of `slicewise tune`: each one an ordinary run up to the last stage, kept on the shelf.

A trial finds the data, the split and every stage that another one has made with the same settings. It moves
nothing home, so that several run at the same time, each in a process of its own.
"""

import argparse
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout, suppress
from csv import DictReader
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slicewise.config.schema import Config
from slicewise.core.console import say
from slicewise.core.errors import ConfigError, DataError, ResourceError, SliceWiseError, TrainingError
from slicewise.core.machine import usable_cores
from slicewise.core.parallel import end_with_parent
from slicewise.core.signals import handle_signals
from slicewise.engine.observers import Console, Observers, StopRun
from slicewise.engine.plan import select
from slicewise.engine.record import RunRecord, StepRecord
from slicewise.engine.runner import Runner
from slicewise.engine.shelf import ShelfWorkspace
from slicewise.engine.workspace import Workspace
from slicewise.steps import pipeline
from slicewise.workflow.observers import list_observers
from slicewise.workflow.tuning import Judge, Pruner, StudySettings, TrialResult, TuningStudy

if TYPE_CHECKING:
    from optuna import Trial

    from slicewise.cluster.ray_workers import TaskPool

_FAULTS = (TrainingError, ResourceError, ConfigError)
"""What is wrong with a trial alone: the loss diverged, memory is short, values contradict each other"""


@dataclass(frozen=True)
class TrialJob:
    """A run to do, in this process or another one.

    Attributes:
        header: of its record.
        title: number and values.
        judge: see `Pruner`; None for the default recipe, which nothing ends early.
        log_path: where its output goes; None: to the terminal.
    """

    workspace: ShelfWorkspace
    config: Config
    header: Mapping[str, Any]
    title: str
    record_path: Path
    judge: Callable[[int, float], bool] | None = None
    log_path: Path | None = None


@dataclass(frozen=True)
class TrialPlace:
    """Where trials run.

    Attributes:
        submit: starts a job.
        judges: returns, for a study and the number of a trial, what its pruner asks; see `TuningStudy.judge`.
    """

    submit: Callable[[TrialJob], Future[TrialResult]]
    judges: Callable[[StudySettings], Callable[[int], Callable[[int, float], bool]]]


def run_trial(job: TrialJob) -> TrialResult:
    """Run the steps of a job up to the last stage, as far as they are not there yet.

    Raises:
        SliceWiseError: something is wrong that would stop every other trial too.
    """
    stage = job.config.final_stage
    epochs = job.config.stages[stage].epochs
    pruner = Pruner(stage, epochs, job.judge) if job.judge else None
    workspace, step = job.workspace, f"train.{stage}"
    record = _new_record(job)
    try:
        runner = _run_until(job, workspace, record, step, pruner)
    except StopRun as stop:
        fingerprint = record.steps[step].fingerprint or ""
        workspace.discard(workspace.partial(step, fingerprint))
        return _stopped(pruner, str(stop), fingerprint)
    except _FAULTS as error:
        return TrialResult("failed", reason=f"{type(error).__name__}: {error}".splitlines()[0])
    return _read_result(runner, step)


def _new_record(job: TrialJob) -> RunRecord:
    return RunRecord(job.record_path, job.header, {step.name: StepRecord() for step in pipeline(job.config)})


def _run_until(
    job: TrialJob, workspace: Workspace, record: RunRecord, last: str, pruner: Pruner | None
) -> Runner[Config]:
    steps = pipeline(job.config)
    steps = steps[: 1 + [step.name for step in steps].index(last)]
    observers = {"console": Console(), **list_observers(job.config, workspace)}
    observers |= {"pruner": pruner} if pruner else {}
    runner = Runner(
        steps,
        job.config,
        workspace,
        workspace.load_hashes(),
        record,
        lambda _: True,
        Observers(observers),
    )
    runner.execute(select(steps, scope="tune"))
    return runner


def prepare_data(job: TrialJob) -> None:
    """Run the steps before the training, so that no two trials do so at the same time."""
    _run_until(job, job.workspace, _new_record(job), "split", None)


def _stopped(pruner: Pruner | None, reason: str, fingerprint: str) -> TrialResult:
    assert pruner is not None
    epochs, score = pruner.history[-1]
    return TrialResult("pruned", score, epochs, pruner.seconds, reason, fingerprint, tuple(pruner.history))


def _read_result(runner: Runner[Config], step: str) -> TrialResult:
    from slicewise.training.model_selection import monitor_score

    stage = runner.config.stages[runner.config.final_stage]
    output = runner.done[step].output
    assert output is not None
    metrics = output.receipt.report.metrics
    with (output.folders["checkpoint"] / "history.csv").open(encoding="utf-8", newline="") as stream:
        rows = [(int(row["epoch"]), row["score"]) for row in DictReader(stream)]
    return TrialResult(
        "complete",
        monitor_score(dict(metrics["best_metrics"]), stage),
        int(metrics["epochs_run"]),
        float(metrics["seconds"]),
        fingerprint=output.receipt.fingerprint,
        history=tuple((epoch, float(score)) for epoch, score in rows if epoch and score),
    )


def run_trials(
    study: TuningStudy,
    total: int,
    num_jobs: int,
    place: TrialPlace,
    make_job: Callable[["Trial", int], TrialJob | TrialResult],
) -> None:
    """Run the trials that are missing, at most so many at a time.

    `make_job` returns the job of a trial with its number, or a result where its values contradict each other.
    """
    pending = study.pending(total)
    running: dict[Future[TrialResult], tuple[int, Trial]] = {}
    while True:
        while len(running) < num_jobs and (entry := next(pending, None)):
            number, trial = entry
            job = make_job(trial, number)
            if isinstance(job, TrialResult):
                study.tell(trial, job)
            else:
                running[place.submit(job)] = (number, trial)
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            number, trial = running.pop(future)
            result = future.result()
            study.tell(trial, result)
            say(f"  trial {number} {describe(result)}", "good" if result.state == "complete" else "dim")


def describe(result: TrialResult) -> str:
    """Return the end of a trial in words."""
    if result.state == "failed":
        return f"failed: {result.reason}"
    assert result.score is not None
    after = f" after epoch {result.epochs}: {result.reason}" if result.state == "pruned" else ""
    return f"{result.state}, validation score {result.score:.4f}{after}"


@contextmanager
def local_trials(num_processes: int) -> Iterator[TrialPlace]:
    """Yield this process, or several, which a stop reaches too."""

    def judges(settings: StudySettings) -> Callable[[int], Callable[[int, float], bool]]:
        return partial(Judge, settings)

    if num_processes == 1:
        yield TrialPlace(_run_here, judges)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(num_processes, context, initializer=end_with_parent) as pool:
        try:
            yield TrialPlace(lambda job: pool.submit(_run_in_worker, job), judges)
        except BrokenProcessPool as error:
            raise DataError(
                "the system stopped a trial, probably for lack of memory; run again with fewer --jobs, what "
                "was finished is kept"
            ) from error
        except BaseException:
            for process in list(pool._processes.values()):
                with suppress(OSError):
                    process.terminate()  # it saves the state of its stage
            pool.shutdown(wait=True, cancel_futures=True)
            raise


@contextmanager
def ray_trials(config: Config, workspace: Workspace, num_jobs: int) -> Iterator[TrialPlace]:
    """Yield workers of Ray; the study stays on this machine."""
    from slicewise.cluster.on_ray import trial_pool

    with ThreadPoolExecutor(num_jobs) as waiters, trial_pool(config, workspace) as (pool, share):

        def submit(job: TrialJob) -> Future[TrialResult]:
            assert job.log_path is not None
            task = pool.start(_run_elsewhere, job, share=share, log=job.log_path)
            return waiters.submit(_await, pool, task)

        def judges(settings: StudySettings) -> Callable[[int], Callable[[int, float], bool]]:
            study = pool.host(partial(TuningStudy, settings))
            return lambda number: partial(study, "judge", number)

        yield TrialPlace(submit, judges)


@contextmanager
def slurm_trials(config: Config, workspace: Workspace, num_jobs: int) -> Iterator[TrialPlace]:
    """Yield jobs of Slurm; the study stays on this machine, and jobs ask it through files."""
    from slicewise.cluster.slurm_calls import slurm_calls

    with ThreadPoolExecutor(num_jobs) as waiters, slurm_calls(workspace, config.cluster) as calls:

        def submit(job: TrialJob) -> Future[TrialResult]:
            assert job.log_path is not None
            call = calls.start("trial", _run_elsewhere, job, log=job.log_path)
            return waiters.submit(_await_slurm, call)

        def judges(settings: StudySettings) -> Callable[[int], Callable[[int, float], bool]]:
            return lambda number: calls.callback(Judge(settings, number), default=False)

        yield TrialPlace(submit, judges)


def _await_slurm(call: Future[TrialResult]) -> TrialResult:
    from slicewise.cluster.slurm import SlurmError

    try:
        return call.result()
    except SlurmError as error:  # its job was killed again and again, probably for memory
        return TrialResult("failed", reason=str(error).splitlines()[0])


def _await(pool: "TaskPool", task: Any) -> TrialResult:
    import ray

    try:
        result: TrialResult | SliceWiseError = ray.get(task)
    except ray.exceptions.RayError as error:  # its worker was killed again and again, probably for memory
        result = TrialResult("failed", reason=f"{type(error).__name__}: {str(error).splitlines()[0]}")
    finally:
        pool.forget(task)
    if isinstance(result, SliceWiseError):
        raise result
    return result


def _run_elsewhere(job: TrialJob) -> TrialResult | SliceWiseError:
    from slicewise.cluster.job import with_own_cpus

    job = replace(job, config=with_own_cpus(job.config), log_path=None)  # the worker has opened it
    try:
        return _run_in_worker(job)
    except SliceWiseError as error:
        return error


def _run_here(job: TrialJob) -> Future[TrialResult]:
    future: Future[TrialResult] = Future()
    say(f"\n{job.title}", "header")
    future.set_result(run_trial(job))
    return future


def _run_in_worker(job: TrialJob) -> TrialResult:
    """Run a job as the main thread of a worker, its output in a file."""
    if job.log_path is None:
        stream: Any = nullcontext()
    else:
        job.log_path.parent.mkdir(parents=True, exist_ok=True)
        stream = job.log_path.open("a", encoding="utf-8")
    with stream as out, redirect_stdout(out), redirect_stderr(out), handle_signals():
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        say(f"{started} {job.title}")
        return run_trial(job)


def with_threads(config: Config, num_processes: int) -> Config:
    """Return the configuration with the threads of one of several processes, where that is left open."""
    if config.runtime.num_threads or num_processes == 1:
        return config
    threads = max(1, usable_cores() // num_processes)
    runtime = config.runtime.model_copy(update={"num_threads": threads})
    return config.model_copy(update={"runtime": runtime})


def trial_namespace(args: argparse.Namespace, words: list[str]) -> argparse.Namespace:
    """Return the arguments of a trial: those of the command, with other overrides."""
    return argparse.Namespace(**{**vars(args), "overrides": words})
