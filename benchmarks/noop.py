"""Runs with nothing to do, as whole processes, against DVC."""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from benchmarks.bench import Bench
from benchmarks.measure import Aim, Row, alternate, share
from benchmarks.size import SMALL_MODEL
from slicewise.core.files import read_json

NAME = "noop"
AIM = Aim("<=", 0.55)

OVERRIDES: Final = (
    "data.sources.volumes.phantom_patients=6",
    "data.sources.pictures.phantom_pictures=16",
    "scale={fraction:1.0,min_patients:6,min_pictures:16}",
    *SMALL_MODEL,
    "training.iterations_per_epoch=2",
    "training.sample_predictions=0",
    *(f"stages.{stage}.epochs=1" for stage in ("seg_warmup", "cls_head", "joint")),
    "evaluation.gradcam_pictures=1",
    "evaluation.sample_predictions=1",
    "evaluation.bootstrap_samples=100",
)
"""A pipeline of a few seconds; with nothing to do, its size does not matter."""
_NUM_STAGES: Final = 8
_RUN: Final = ("run", "--no-input")
_SELECTION: Final = ("--mode", "train-eval")
_NOT_OURS: Final = ("SLICEWISE_", "PYTHONDONTWRITEBYTECODE", "DVC_", "COV_")


def run(bench: Bench) -> list[Row]:
    """Time our commands and `dvc repro` alternately."""
    workspace = bench.workspace or _finish_workspace(bench.folder / "workspace")
    overrides = bench.workspace_overrides if bench.workspace else OVERRIDES
    on_workspace = (*_SELECTION, "--workspace", str(workspace), *overrides)
    _check_noop(workspace, on_workspace)
    repository = _dvc_repository(bench.folder / "dvc")
    commands: dict[str, Callable[[], object]] = {
        "slicewise run": slicewise_command(*_RUN, *on_workspace),
        "slicewise plan": slicewise_command("plan", *on_workspace),
        "slicewise --help": slicewise_command("--help"),
        "dvc": lambda: run_program([_script("dvc"), "repro"], repository),
    }
    seconds = alternate(commands, bench.size.starts)
    what = f"without changes, against dvc repro of {_NUM_STAGES} stages"
    ours = [name for name in commands if name != "dvc"]
    return [share(NAME, f"{name} {what}", "s", seconds[name], seconds["dvc"], AIM) for name in ours]


def run_program(command: Sequence[str], folder: Path) -> str:
    """Run a program in the environment of a user's shell and return its output.

    Raises:
        RuntimeError: it failed.
    """
    environment = {name: text for name, text in os.environ.items() if not name.startswith(_NOT_OURS)}
    environment["DVC_NO_ANALYTICS"] = "1"
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def slicewise_command(*words: str) -> Callable[[], str]:
    """Return a function that runs a `slicewise` command in a process of its own."""
    return lambda: run_program([_script("slicewise"), *words], Path(__file__).resolve().parents[1])


def _finish_workspace(folder: Path) -> Path:
    """Run the whole pipeline without the demo, once."""
    print("  noop: running a tiny pipeline once", flush=True)
    slicewise_command("run", "--no-input", "--skip-demo", "--workspace", str(folder), *OVERRIDES)()
    return folder


def _check_noop(workspace: Path, words: Sequence[str]) -> None:
    """Check that the run to be timed does nothing."""
    slicewise_command(*_RUN, *words)()
    steps = read_json(workspace / "pipeline_results.json")["steps"]
    ran = [name for name, step in steps.items() if step["status"] == "completed"]
    if ran:
        raise RuntimeError(f"{workspace} was not finished: {', '.join(ran)} ran; start again")


def _dvc_repository(folder: Path) -> Path:
    """Make a DVC repository with a chain of trivial stages, and run it once."""
    folder.mkdir()
    dvc = _script("dvc")
    run_program([dvc, "init", "--no-scm", "--quiet"], folder)
    run_program([dvc, "config", "core.analytics", "false"], folder)
    run_program([dvc, "config", "core.check_update", "false"], folder)
    (folder / "file0").write_text("something\n", encoding="utf-8")
    stages = "".join(
        f"  stage{n}:\n    cmd: cp file{n - 1} file{n}\n    deps: [file{n - 1}]\n    outs: [file{n}]\n"
        for n in range(1, _NUM_STAGES + 1)
    )
    (folder / "dvc.yaml").write_text(f"stages:\n{stages}", encoding="utf-8")
    run_program([dvc, "repro"], folder)
    return folder


def _script(name: str) -> str:
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        raise RuntimeError(f"{name} is not installed beside {sys.executable}; `make bench` installs it")
    return str(path)
