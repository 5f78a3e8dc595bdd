"""A disk that fills up, or is closed to us, under every step: said clearly, nothing lost, and it goes on."""

import errno
import os
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.conftest import Pipeline
from tests.test_bad_input import write_patient

from slicewise.config.compose import compose
from slicewise.data import preprocess
from slicewise.engine import runner
from slicewise.engine.receipt import Receipt
from slicewise.steps import pipeline as build_steps

SMALLEST = (
    "data=brats",
    "data.name=mine",
    "data.sources.pictures=null",
    "scale.fraction=1.0",
    "stages.cls_head.sources={volumes:1.0,pictures:0.0}",
    "stages.joint.sources={volumes:1.0,pictures:0.0}",
    "stages.seg_warmup.epochs=1",
    "stages.cls_head.epochs=1",
    "stages.joint.epochs=1",
    "preprocessing.image_size=32",
    "model.encoder=tu-test_resnet",
    "model.encoder_weights=null",
    "model.encoder_depth=3",
    "training.batch_size=8",
    "training.iterations_per_epoch=2",
    "training.precision=fp32",
    "evaluation.bootstrap_samples=100",
    "evaluation.gradcam_pictures=1",
    "evaluation.sample_predictions=1",
    "evaluation.failure_pictures=1",
    "runtime.num_workers=1",
    "runtime.num_threads=1",
)
"""Every step on patients of 40 x 40 x 12 voxels, with timm's model for tests."""
PIPELINE_STEPS = tuple(step for step in build_steps(compose([])) if step.homes)


class Tmpfs:
    """A file system of its own, which a large file fills."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.filler = folder / "filler"

    def fill(self) -> None:
        with self.filler.open("ab", buffering=0) as stream, pytest.raises(OSError, match="No space"):
            for size in (1 << 20, 1):
                while stream.write(b"\0" * size) == size or size > 1:
                    pass

    def mend(self) -> None:
        self.filler.unlink()


class NoLargeFiles:
    """`ulimit -f`, which needs no permission."""

    def fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))

    def mend(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


Disk = Tmpfs | NoLargeFiles


@contextmanager
def mounted(folder: Path, *words: str) -> Iterator[None]:
    done = subprocess.run(["mount", *words, str(folder)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("mounting is not permitted here; the limit on file sizes is tested instead")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(params=["tmpfs", "file size"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Disk]:
    if request.param == "file size":
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        yield NoLargeFiles()
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        return
    folder = tmp_path / "workspace"
    folder.mkdir()
    with mounted(folder, "-t", "tmpfs", "-o", "size=128m", "tmpfs"):
        yield Tmpfs(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for number in range(1, 7):
        write_patient(folder, number)
    folder.chmod(0o755)
    return folder


@pytest.fixture
def pipeline(tmp_path: Path, data: Path) -> Pipeline:
    return Pipeline(tmp_path / "workspace", (*SMALLEST, f"data.sources.volumes.path={data}"))


def tree(folder: Path) -> dict[str, bytes]:
    """Return every file at a home; what is hidden is work in progress or a receipt."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".slicewise" not in path.parts and path.suffix not in (".log", ".yaml")
        if path.name not in ("pipeline_results.json", "filler")
    }


def fill_in(monkeypatch: pytest.MonkeyPatch, step: str, fill: Callable[[], None]) -> None:
    """Let the disk fill up just after it was found large enough for `step`."""

    def require(folder: Path, needed_bytes: int, what: str) -> None:
        if what == step:
            fill()

    monkeypatch.setattr(runner, "require_space", require)
    monkeypatch.setattr(preprocess, "require_space", lambda *_: None)


@pytest.mark.slow
def test_each_step_meets_a_full_disk_and_goes_on_once_there_is_room(
    pipeline: Pipeline, disk: Disk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = isinstance(disk, NoLargeFiles) and os.geteuid() == 0  # where the other disk can be mounted
    for number, step in enumerate(PIPELINE_STEPS[:4] if few else PIPELINE_STEPS):
        before = tree(pipeline.workspace)
        fill_in(monkeypatch, step.name, disk.fill)
        assert pipeline.run("--until", step.name) == 1
        said = capsys.readouterr()
        assert "cannot be written: the " in said.err, said.err
        assert "MiB free of" in said.err
        assert "run the same command again" in said.err
        assert "could not be updated either" in said.out  # the record is on the same disk
        assert pipeline.run("--until", step.name) == 1, "still full: refused at once"
        assert "cannot be written" in capsys.readouterr().err
        disk.mend()
        after = tree(pipeline.workspace)
        assert all(after[name] == content for name, content in before.items())
        new = {name for name in after.keys() - before.keys() if not name.startswith("data/slices/")}
        assert not new, "something unfinished stands at a home"
        monkeypatch.undo()
        assert pipeline.run("--until", step.name) == 0
        expected = [earlier.name for earlier in PIPELINE_STEPS[: number + 1]]
        assert pipeline.ran() == expected[-1:]
        assert all(Receipt.read(pipeline.workspace / home) for home in step.homes.values())
    assert not list(pipeline.workspace.rglob(".partial-*"))


def test_clean_makes_room_on_a_full_disk(pipeline: Pipeline, tmp_path: Path) -> None:
    pipeline.workspace.mkdir()
    with mounted(pipeline.workspace, "-t", "tmpfs", "-o", "size=4m", "tmpfs"):
        shelf = pipeline.workspace / ".slicewise" / "shelf" / "join" / "old"
        shelf.mkdir(parents=True)
        (shelf / "output").write_bytes(b"\0" * (2 << 20))
        Tmpfs(pipeline.workspace).fill()
        assert Pipeline(pipeline.workspace, ()).call("clean") == 0
        assert shutil.disk_usage(pipeline.workspace).free >= 2 << 20


def test_a_read_only_workspace_is_refused_before_any_work(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    pipeline.workspace.mkdir()
    with mounted(pipeline.workspace, "-t", "tmpfs", "-o", "ro,size=1m", "tmpfs"):
        assert pipeline.run() == 1
        assert "the file system is read-only" in capsys.readouterr().err


def test_a_home_on_another_disk_is_named(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    home = pipeline.workspace / "data" / "index"
    home.parent.mkdir(parents=True)
    other = pipeline.workspace / "other"
    (pipeline.workspace / "data").rmdir()
    other.mkdir()
    with mounted(other, "-t", "tmpfs", "-o", "size=1m", "tmpfs"):
        home.parent.symlink_to(other)
        assert pipeline.run("--until", "download") == 1
        assert "on another disk" in capsys.readouterr().err
        home.parent.unlink()
    assert pipeline.run("--until", "download") == 0


@contextmanager
def somebody_else() -> Iterator[Path]:
    """Be a user without rights over a folder where the tests run as root; yield an open folder."""
    with tempfile.TemporaryDirectory() as name:
        folder, mine = Path(name), os.geteuid()
        folder.chmod(0o777)
        try:
            if mine == 0:
                os.seteuid(65534)
            yield folder
        finally:
            os.seteuid(mine)
            for path in [folder, *folder.rglob("*")]:
                if path.is_dir():
                    path.chmod(0o777)


@pytest.mark.parametrize("closed", ["workspace", "workspace/data"])
def test_a_folder_without_permission_is_named_and_the_run_goes_on_once_it_is_open(
    closed: str, pipeline: Pipeline, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pipeline.run("--until", "download") == 0  # imports all modules while they can be read
    with somebody_else() as folder:
        for number in range(1, 5):
            write_patient(folder / "patients", number)
        overrides = (*SMALLEST, f"data.sources.volumes.path={folder / 'patients'}")
        theirs = Pipeline(folder / "workspace", overrides)
        (folder / closed).mkdir(parents=True)
        (folder / closed).chmod(0o555)
        assert theirs.run("--until", "download") == 1
        err = capsys.readouterr().err
        assert str(folder / closed) in err
        assert os.strerror(errno.EACCES).lower() in err
        (folder / closed).chmod(0o755)
        assert theirs.run("--until", "download") == 0
