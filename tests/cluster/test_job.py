"""A job makes the output that its plan names, and refuses everything else."""

import re
import subprocess
from pathlib import Path

import pytest
from tests.cluster.conftest import WORDS, Seal, Sealed
from tests.test_image_masks_run import pipeline_on

from slicewise.cluster.bundles import MAX_TASKS, divide
from slicewise.cluster.plan import BUNDLES, source_folder
from slicewise.cluster.progress import read_plan_progress, remarks
from slicewise.core import hashing
from slicewise.core.files import read_json, write_json


@pytest.fixture
def sealed(seal_plan: Seal, tmp_path: Path) -> Sealed:
    return seal_plan(tmp_path / "work")


def outputs(workspace: Path) -> dict[str, bytes]:
    """Return the files of the data that a run made, without times."""
    folders = ("data/slices", "data/processed", "data/split")
    paths = (path for folder in folders for path in (workspace / folder).rglob("*"))
    return {
        path.relative_to(workspace).as_posix(): path.read_bytes()
        for path in paths
        if path.is_file() and path.name != ".receipt.json"
    }


def test_jobs_make_the_bytes_of_a_local_run(sealed: Sealed, pictures: Path, tmp_path: Path) -> None:
    local = pipeline_on(pictures, tmp_path / "local", *WORDS)
    assert local.run("--until", "split") == 0
    assert len(sealed.group(BUNDLES).jobs) > 1
    for index in range(len(sealed.group(BUNDLES).jobs)):
        assert sealed.run(BUNDLES, index).returncode == 0
    for group in ("preprocess", "split"):
        done = sealed.run(group)
        assert done.returncode == 0, done.stderr
    assert outputs(sealed.pipeline.workspace) == outputs(local.workspace)
    assert not [*(sealed.folder.workspace.state / "partial").glob("*/*")], "nothing is left over"


def test_what_was_edited_while_a_job_waited_changes_nothing(sealed: Sealed) -> None:
    source = source_folder(sealed.folder.workspace, sealed.folder.plan.source)
    assert not [*remarks(sealed.folder)]
    module = source / "src/slicewise/data/store.py"
    module.write_text(module.read_text() + "\n# an edit of the copy itself\n")
    done = sealed.run(BUNDLES)
    assert done.returncode == 1
    assert "was changed since the plan was sealed" in done.stderr
    (failure,) = [
        line for group in read_plan_progress(sealed.folder).groups for line in group.details if "0:" in line
    ]
    assert failure.startswith("preprocess.cases.0: ")


def test_an_edited_plan_is_refused(sealed: Sealed) -> None:
    path, command, env = sealed.folder.path / "plan.json", sealed.command("split"), sealed.env
    raw = read_json(path)
    raw["config"]["seed"] += 1
    for digest in (raw["digest"], hashing.digest({k: v for k, v in raw.items() if k != "digest"})):
        write_json(path, {**raw, "digest": digest})
        done = subprocess.run(command, env=env, text=True, capture_output=True, check=False)
        assert done.returncode == 1
        assert "was changed since " in done.stderr
        assert "it makes nothing" in done.stderr or "its jobs make nothing" in done.stderr


def test_a_checkout_that_is_not_the_copy_is_refused(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Path(__file__).parents[2] / "src"
    monkeypatch.setattr(Sealed, "env", {**sealed.env, "PYTHONPATH": str(source)})
    done = sealed.run("split")
    assert done.returncode == 1
    assert "this job runs" in done.stderr


def test_pictures_that_have_changed_make_no_other_output(sealed: Sealed, pictures: Path) -> None:
    path = next(pictures.rglob("p03.jpg"))
    content = path.read_bytes()
    try:
        path.write_bytes(content + b"\0")
        done = sealed.run(BUNDLES)
    finally:
        path.write_bytes(content)
    assert done.returncode == 2
    message = re.sub(r"\s+", " ", done.stderr)
    assert "download, which would have to run" in message


@pytest.mark.parametrize(
    ("seconds", "least", "sizes"),
    [
        ([], 60, []),
        ([1] * 5, 60, [5]),
        ([30] * 6, 60, [2, 2, 2]),
        ([30] * 7, 60, [3, 2, 2]),
        ([90, 1, 70, 10], 60, [1, 3]),
        ([61] * 3, 60, [1, 1, 1]),
    ],
)
def test_a_bundle_lasts_as_long_as_is_set(seconds: list[float], least: float, sizes: list[int]) -> None:
    bundles = divide(seconds, least)
    assert [len(bundle) for bundle in bundles] == sizes
    assert sorted(place for bundle in bundles for place in bundle) == [*range(len(seconds))]
    assert all(sum(seconds[place] for place in bundle) >= min(least, sum(seconds)) for bundle in bundles)


def test_bundles_shrink_until_the_last_ones_are_as_short_as_is_set() -> None:
    sizes = [len(bundle) for bundle in divide([1.0] * 1000, 10, slots=16)]
    assert sum(sizes) == 1000
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] in (30, 31), "about three times as long"
    assert {*sizes[-16:]} <= {10, 11}


def test_there_are_no_more_tasks_than_an_array_may_have() -> None:
    assert len(divide([100.0] * 5000, 60)) <= MAX_TASKS
