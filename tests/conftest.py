"""Shared by all tests: paths of the checkout, and a tiny pipeline that has run once."""

import fcntl
import os
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from slicewise.core.files import read_json


def _take_own_cores() -> None:
    """Give each of several workers its own cores: threads that compete for cores are very slow.

    OpenMP counts the cores when torch is loaded, so this comes before the first import of it.
    """
    if "PYTEST_XDIST_WORKER" in os.environ and hasattr(os, "sched_setaffinity"):
        usable = sorted(os.sched_getaffinity(0))
        number = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
        own = usable[number :: int(os.environ["PYTEST_XDIST_WORKER_COUNT"])]
        os.sched_setaffinity(0, own or [usable[number % len(usable)]])  # there may be more workers than cores


def _heed_signals() -> None:
    """Undo that a shell or `nohup` made its jobs ignore signals: programs that tests start inherit that."""
    for number, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


_take_own_cores()
_heed_signals()

pytest_plugins = [
    f"tests.fixtures.{name}"
    for name in ("small_model", "cohorts", "services", "packages", "made_once", "figures", "slurm", "ray")
]

ROOT = Path(__file__).resolve().parents[1]
REAL_DATA = ROOT.parent / "shared" / "data"

TINY = (
    "data.sources.volumes.phantom_patients=6",
    "data.sources.pictures.phantom_pictures=16",
    "scale={fraction:1.0,min_patients:6,min_pictures:16}",
    "preprocessing.image_size=64",
    "training.batch_size=8",
    "training.iterations_per_epoch=12",
    "evaluation.class_threshold=0.25",  # some slice is called tumour, whatever bits a processor gives
    "evaluation.gradcam_pictures=4",
    "evaluation.sample_predictions=3",
    "evaluation.bootstrap_samples=200",
    "evaluation.failure_pictures=4",
    "runtime.num_threads=1",  # the same bits in every worker, whatever its cores
)
"""A pipeline of a few seconds: every step runs, though the model learns nothing."""
TINIEST = (
    *TINY,
    "preprocessing.image_size=32",
    "model.encoder=tu-test_resnet",  # timm's model for tests: 0.2 M parameters
    "model.encoder_weights=null",
    "model.encoder_depth=3",
    "training.iterations_per_epoch=2",
    "training.sample_predictions=1",
    "evaluation.bootstrap_samples=100",
    "evaluation.gradcam_pictures=1",
    "evaluation.sample_predictions=1",
    "evaluation.failure_pictures=1",
)
"""The same with the smallest model and few figures, for tests that train anew."""


TESTS = Path(__file__).parent
SLOW = {
    *(
        "benchmarks",
        "chaos",
        "cli",
        "cluster",
        "comparison",
        "demo",
        "explain",
        "exporting",
        "extension",
        "fuzz",
        "notebooks",
    ),
    *("phantom", "plots", "serving"),
    *("test_adapters", "test_bad_input", "test_channels", "test_checkpoint", "test_class_folders"),
    *("test_class_folders_run", "test_classes", "test_commands", "test_compose", "test_configs"),
    "test_dicom_geometry",
    *("test_cross_validation", "test_damage", "test_ensemble", "test_exact", "test_failures"),
    *("test_families", "test_folds", "test_foreground", "test_full_disk", "test_given_split"),
    *("test_image_masks_run", "test_interface", "test_kills", "test_lock", "test_machine"),
    *("test_made_once", "test_multitask", "test_parallel", "test_participants", "test_perceptual"),
    *("test_pipeline", "test_precise_bn", "test_prepared_pictures", "test_pretrained", "test_program"),
    *("test_progress", "test_recipes", "test_report", "test_runner", "test_secrets"),
    *("test_selection_gain", "test_several_classes", "test_signals", "test_stage"),
}
"""Folders and files of tests that start programs, generate patients, build or train models, or draw figures:
`make test-fast` leaves them out."""
LONGEST = (
    *("test_commands", "test_slurm", "test_page_in_browser", "test_ray", "test_chaos", "test_tune"),
    *("test_predict", "test_partition", "test_stage", "test_slurm_fixture", "test_kills"),
)
"""Files that begin: a worker that got one of them last would work on it alone. Those that wait for a cluster
alternate with those that compute."""


def pytest_configure() -> None:
    settings.register_profile("timeless", deadline=None)  # no test asserts how long something takes
    settings.load_profile("timeless")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests as slow that need a whole pipeline or start programs; files with slow tests come first."""
    slow_files = set()
    for item in items:
        needs_pipeline = {"trained", "reevaluated"} & set(getattr(item, "fixturenames", ()))
        if needs_pipeline or SLOW & {item.path.stem, *item.path.relative_to(TESTS).parts[:-1]}:
            item.add_marker(pytest.mark.slow)
            slow_files.add(item.path)
    last = len(LONGEST)
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, last + (item.path not in slow_files)))


@dataclass(frozen=True)
class Pipeline:
    """The command line on one workspace, in this process."""

    workspace: Path
    overrides: tuple[str, ...] = TINY

    def call(self, verb: str, *words: str) -> int:
        from slicewise.cli.main import main

        return main([verb, "--workspace", str(self.workspace), *words, *self.overrides])

    def call_bare(self, verb: str, *words: str) -> int:
        """Call a verb that reads no configuration."""
        from slicewise.cli.main import main

        return main([verb, "--workspace", str(self.workspace), *words])

    def run(self, *words: str) -> int:
        return self.call("run", "--no-input", *words)

    @property
    def record(self) -> Any:
        return read_json(self.workspace / "pipeline_results.json")

    def statuses(self) -> dict[str, str]:
        return {name: step["status"] for name, step in self.record["steps"].items()}

    def ran(self) -> list[str]:
        return [name for name, status in self.statuses().items() if status == "completed"]

    def with_overrides(self, *extra_overrides: str) -> "Pipeline":
        return Pipeline(self.workspace, (*self.overrides, *extra_overrides))


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A workspace in which every step but the demo has run. Tests restore what they change.

    It runs once for all workers: the others wait, find it up to date, and copy it too.
    """
    from tests.fixtures.figures import figures_drawn

    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    shared, worker_copy = Pipeline(base / "shared"), Pipeline(tmp_path_factory.mktemp("trained"))
    with (base / "shared.lock").open(
        "w"
    ) as lock_file:  # held while copying, too; closing it lets the next one in
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        with figures_drawn():
            assert shared.run("--until", "report") == 0
        shutil.copytree(
            shared.workspace, worker_copy.workspace, ignore=shutil.ignore_patterns("lock"), dirs_exist_ok=True
        )
    return worker_copy


@dataclass(frozen=True)
class Reevaluated:
    """A run of the evaluate step alone, with other settings than `trained`."""

    pipeline: Pipeline
    openings: list[tuple[str, bool]]
    """Subsets in the order of opening, and whether the chosen thresholds were written by then."""


@pytest.fixture(scope="session")
def reevaluated(trained: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Reevaluated:
    """Evaluate the trained models again, in a copy, with thresholds chosen on the few validation patients."""
    from slicewise.workflow import slices

    extra_overrides = (
        "evaluation.mask_threshold=0.2",
        "evaluation.min_choice_patients=1",
        "evaluation.modality_subsets=true",
    )
    copy = Pipeline(tmp_path_factory.mktemp("reevaluated"), (*trained.overrides, *extra_overrides))
    for name in ("data", "checkpoints", ".slicewise"):
        ignored = shutil.ignore_patterns("lock")
        shutil.copytree(trained.workspace / name, copy.workspace / name, ignore=ignored)
    openings: list[tuple[str, bool]] = []
    open_cases = slices.open_cases

    def recording_open_cases(context: Any, subset: Any) -> Any:
        openings.append((subset, (context.out("evaluation") / "calibration.json").exists()))
        return open_cases(context, subset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(slices, "open_cases", recording_open_cases)
        assert copy.run("--until", "evaluate") == 0
    assert copy.ran() == ["evaluate"]
    return Reevaluated(copy, openings)


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    """Draw the same numbers in each test, whichever tests came before it."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _no_machine_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep credentials and settings of the user out of the tests."""
    for name in [n for n in os.environ if n.startswith(("KAGGLE_", "SLICEWISE_"))]:
        monkeypatch.delenv(name)
