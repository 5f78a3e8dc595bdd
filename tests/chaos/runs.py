"""One run of a tiny pipeline: killed at given moments, restarted each time, until it ends."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
from tests.chaos.outputs import leftovers, read_events, snapshot, unsound

from slicewise.config.compose import compose
from slicewise.steps import pipeline

ROOT: Final = Path(__file__).resolve().parents[2]
STEPS: Final = tuple(step.name for step in pipeline(compose([])) if step.homes)
TARGETS: Final = ("start", *STEPS)
OVERRIDES: Final = (
    "data.sources.volumes.phantom_patients=4",
    "data.sources.pictures.phantom_pictures=16",
    "scale={fraction:1.0,min_patients:4,min_pictures:16}",
    "preprocessing.image_size=32",
    "model.encoder=tu-test_resnet",  # timm's model for tests: 0.2 M parameters
    "model.encoder_weights=null",
    "model.encoder_depth=3",
    "model.head_hidden=8",
    "training.batch_size=8",
    "training.iterations_per_epoch=4",
    "training.accumulate=2",
    "training.ema_decay=0.9",
    "training.sample_predictions=1",
    *(f"stages.{stage}.epochs=2" for stage in ("seg_warmup", "cls_head", "joint")),
    "evaluation.gradcam_pictures=1",
    "evaluation.sample_predictions=1",
    "evaluation.failure_pictures=1",
    "evaluation.bootstrap_samples=100",
    "runtime.device=cpu",
    "runtime.num_workers=2",
    "runtime.num_threads=1",
    "runtime.checkpoint_seconds=1e-3",  # so that kills meet saves
)
_INJECTED: Final = Path(__file__).parent / "inject"
_PATIENCE_SECONDS: Final = 600
_ORDERLY: Final = {
    "code": 130,
    "status": "interrupted",
    "status of the step": "interrupted",
    "noise": [],
    "way on": True,
    "unsound": [],
}


@dataclass(frozen=True)
class Kill:
    """A moment in a step: at its `count`-th write (of a worker if `in_worker`) or after a share of it."""

    step: str
    share: float = 0.0
    count: int = 0
    in_worker: bool = False
    delay: float = 0.0
    signal: int = signal.SIGKILL


@dataclass(frozen=True)
class Usual:
    """Outputs, durations and writes of an uninterrupted run."""

    outputs: dict[str, str]
    seconds: float
    step_seconds: dict[str, float]
    num_writes: dict[str, int]

    def draw(self, step: str, rng: random.Random) -> Kill:
        """Return a random moment in a step; two of three are at a write."""
        if step == "start" or rng.random() < 1 / 3:
            return Kill(step, share=rng.random())
        delay = rng.choice((0.0, rng.uniform(0.0, 0.003)))
        if step in ("download", "preprocess") and rng.random() < 0.5:
            return Kill(step, count=rng.randint(1, 12), in_worker=True, delay=delay)
        return Kill(step, count=rng.randint(1, max(1, self.num_writes.get(step, 1))), delay=delay)


@dataclass
class Attempt:
    """One start of the command; `step` and `event` are the step and the write at which it was killed."""

    seconds: float
    code: int
    step: str = ""
    event: str = ""
    path: str = ""
    faults: list[str] = field(default_factory=list)

    @property
    def was_killed(self) -> bool:
        return self.code == -signal.SIGKILL


@dataclass
class Run:
    """All starts in one workspace, and the differences of its outputs to the uninterrupted run's."""

    number: int
    attempts: list[Attempt]
    mismatches: list[str]
    leftovers: list[str]


def uninterrupted(folder: Path, raw: Path | None = None) -> Usual:
    """Run once in an empty workspace, or from the data of `raw`, and log every write."""
    workspace, log = folder / "usual", folder / "writes.jsonl"
    if raw:
        shutil.copytree(raw, workspace / "data" / "raw", copy_function=os.link)
    attempt = start(workspace, log, None)
    if attempt.code:
        raise RuntimeError(f"the uninterrupted run ended with {attempt.code}; see {workspace}.log")
    steps = read_record(workspace)["steps"]
    return Usual(
        snapshot(workspace),
        attempt.seconds,
        {name: steps[name]["duration_seconds"] for name in STEPS},
        Counter(event["step"] for event in read_events(log)),
    )


def killed_run(folder: Path, number: int, usual: Usual, kills: list[Kill], stops: Sequence[str] = ()) -> Run:
    """Start a run, kill it at each moment, stop it in steps, let it end; return it with the differences."""
    workspace, log = folder / f"run{number}", folder / f"kill{number}.jsonl"
    _copy_raw_data(folder / "usual", workspace, number)
    attempts = [start(workspace, log, kill, usual) for kill in kills]
    differing = [fault for step in stops for fault in _stop(workspace, log, step, signal.SIGINT)]
    attempts.append(start(workspace, log, Kill("never")))
    if attempts[-1].code:
        differing.append(f"the last start ended with {attempts[-1].code}")
    if not differing:
        outputs = snapshot(workspace)
        names = sorted(outputs.keys() | usual.outputs.keys())
        differing = [name for name in names if outputs.get(name) != usual.outputs.get(name)]
    run = Run(number, attempts, differing, leftovers(workspace))
    if not differing:
        shutil.rmtree(workspace)
    return run


def stopped_run(folder: Path, usual: Usual, steps: Sequence[str]) -> Iterator[str]:
    """Stop one run in each of the steps, by SIGINT and SIGTERM in turn, then let it end; yield the faults."""
    workspace, log = folder / "stopped", folder / "stop.jsonl"
    shutil.copytree(folder / "usual" / "data" / "raw", workspace / "data" / "raw", copy_function=os.link)
    for turn, step in enumerate(steps):
        yield from _stop(workspace, log, step, (signal.SIGINT, signal.SIGTERM)[turn % 2])
    if code := start(workspace, log, Kill("never")).code:
        yield f"the last start ended with {code}"
    elif snapshot(workspace) != usual.outputs or leftovers(workspace):
        yield f"the stopped run ends with other outputs, or with leftovers {leftovers(workspace)}"


def _stop(workspace: Path, log: Path, step: str, number: signal.Signals) -> Iterator[str]:
    """Stop a run in a step; yield what is not as after an orderly end."""
    end = start(workspace, log, Kill(step, count=4, in_worker=step == "preprocess", signal=number))
    output, record = workspace.with_suffix(".log").read_text(), read_record(workspace)
    found = {
        "code": end.code,
        "status": record["status"],
        "status of the step": record["steps"][step]["status"],
        "noise": [word for word in ("Traceback", "Warning") if word in output],
        "way on": "--until report" in record.get("continue_with", ""),
        "unsound": list(unsound(workspace)),
    }
    if found != _ORDERLY:
        yield f"stopped in {step}: {found}\n{output}"


def _copy_raw_data(usual: Path, workspace: Path, number: int) -> None:
    """Link the patients of the uninterrupted run, or two of four in every fourth run."""
    source, target = usual / "data" / "raw" / "phantom", workspace / "data" / "raw" / "phantom"
    shutil.copytree(source, target, copy_function=os.link)
    if number % 4 == 0:
        for patient in sorted(target.iterdir())[:2]:
            shutil.rmtree(patient)


def command(workspace: Path) -> list[str]:
    head = [sys.executable, "-m", "slicewise", "run", "--no-input", "--until", "report"]
    return [*head, "--workspace", str(workspace), *OVERRIDES]


def start(workspace: Path, log: Path, kill: Kill | None, usual: Usual | None = None) -> Attempt:
    """Start the command once; without `kill` it logs all writes."""
    workspace.mkdir(parents=True, exist_ok=True)
    if kill:
        log.unlink(missing_ok=True)
    plan: dict[str, Any] = {"root": str(workspace), "log": str(log)}
    if kill:
        plan |= asdict(kill)
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("SLICEWISE_")},
        "PYTHONPATH": os.pathsep.join([str(_INJECTED), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep),
        "CHAOS_PLAN": json.dumps(plan),
    }
    started = time.monotonic()
    with workspace.with_suffix(".log").open("ab") as output:
        process = subprocess.Popen(
            command(workspace),
            stdout=output,
            stderr=output,
            env=environment,
            cwd=ROOT,
            start_new_session=True,
        )
        if kill and usual and not kill.count:
            _kill_after_share(process, workspace, kill, usual)
        code = process.wait(_PATIENCE_SECONDS)
    attempt = Attempt(time.monotonic() - started, code)
    _wait_for_group(process.pid)
    if attempt.was_killed:
        _describe(attempt, workspace, log)
    return attempt


def _kill_after_share(process: subprocess.Popen[bytes], workspace: Path, kill: Kill, usual: Usual) -> None:
    if kill.step == "start":
        pause = kill.share * max(0.5, usual.seconds - sum(usual.step_seconds.values()))
    else:
        pause = kill.share * usual.step_seconds[kill.step]
        while process.poll() is None and _running_step(workspace) != kill.step:
            time.sleep(0.01)
    try:
        process.wait(pause)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)


def _describe(attempt: Attempt, workspace: Path, log: Path) -> None:
    attempt.step = _running_step(workspace) or "between steps"
    events = read_events(log)
    if events:
        attempt.event, attempt.path = events[-1]["event"], events[-1]["path"]
    attempt.faults = list(unsound(workspace))


def _running_step(workspace: Path) -> str | None:
    path = workspace / "pipeline_results.json"
    if not path.exists():
        return None
    steps = read_record(workspace)["steps"]
    return next((name for name, step in steps.items() if step["status"] == "running"), None)


def read_record(workspace: Path) -> Any:
    return json.loads((workspace / "pipeline_results.json").read_text())


def _wait_for_group(group: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and members(group):
        time.sleep(0.01)
    if members(group):
        raise RuntimeError(f"processes {members(group)} outlived their run")


def members(group: int) -> list[int]:
    """Return the process ids of a group that still run."""
    pids = []
    for process in psutil.process_iter(["status"]):
        try:
            same = os.getpgid(process.pid) == group
        except ProcessLookupError:
            continue
        if same and process.info["status"] != psutil.STATUS_ZOMBIE:
            pids.append(process.pid)
    return pids
