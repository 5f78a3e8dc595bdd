"""A small set of pictures with masks, a sealed plan of a run on it, and its jobs without Slurm."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.conftest import Pipeline
from tests.test_image_masks_run import pipeline_on, write_set

from slicewise.cli.main import parse
from slicewise.cli.options import compose_from, selection_from
from slicewise.cluster import bundles
from slicewise.cluster.plan import Group, PlanFolder, source_folder, write_plan
from slicewise.cluster.seal import make_plan
from slicewise.cluster.source import seal_source
from slicewise.engine.plan import plan
from slicewise.engine.workspace import Workspace
from slicewise.steps import pipeline

WORDS = ("tasks.segmentation.classes=[disc,bar]", "cluster.bundle_seconds=6")
UNTIL = ("--until", "train")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 pictures with masks, and two that cannot be used."""
    return write_set(tmp_path_factory.mktemp("pictures") / "set")


@dataclass
class Sealed:
    """A plan whose jobs are started by hand."""

    pipeline: Pipeline
    folder: PlanFolder

    def command(self, group: str, index: int = 0) -> list[str]:
        root, number = self.folder.workspace.root, self.folder.number
        words = ["-P", "-m", "slicewise.cluster.job", str(root), str(number), self.folder.digest, group]
        return [sys.executable, *words, str(index)]

    @property
    def env(self) -> dict[str, str]:
        source = source_folder(self.folder.workspace, self.folder.plan.source)
        return {**os.environ, "PYTHONPATH": str(source / "src"), "SLICEWISE_CONFIGS": str(source / "configs")}

    def run(self, group: str, index: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a job to its end."""
        command = self.command(group, index)
        return subprocess.run(
            command, env=self.env, text=True, capture_output=True, timeout=300, check=False, cwd="/"
        )

    def group(self, name: str) -> Group:
        return next(group for group in self.folder.plan.groups if group.name == name)


Seal = Callable[[Path], Sealed]


@pytest.fixture(autouse=True)
def _second_per_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make bundles that do not depend on this machine: of six pictures, the last of four or more."""
    monkeypatch.setattr(bundles, "_seconds_per_slice", lambda *_: 1.0)
    monkeypatch.setattr("slicewise.cluster.seal.num_slots", lambda *_: 0)


@pytest.fixture
def seal_plan(pictures: Path) -> Seal:
    """Return a function that seals a plan up to the training in a workspace where the data are listed."""

    def seal_in(workspace: Path) -> Sealed:
        run = pipeline_on(pictures, workspace, *WORDS)
        assert run.run("--until", "download") == 0
        return Sealed(run, seal_next(run))

    return seal_in


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def seal_next(run: Pipeline, *words: str) -> PlanFolder:
    """Seal a plan as `run --on slurm` does, and submit nothing."""
    _, args = parse(["run", "--workspace", str(run.workspace), *UNTIL, *words, *run.overrides])
    config, workspace = compose_from(args), Workspace(run.workspace)
    selection, hashes = selection_from(args, config), workspace.load_hashes()
    decisions = plan(pipeline(config), config, workspace, hashes, selection)
    source, header = seal_source(source_folder(workspace, "")), {"command": "slicewise run"}
    return write_plan(workspace, make_plan(decisions, config, workspace, hashes, selection, header, source))
