"""An attempt at a job that was given up, however late it wakes up, writes nothing."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.cluster.conftest import Seal, Sealed, seal_next

from slicewise.cli.main import main
from slicewise.cluster.lease import (
    AttemptWorkspace,
    CancelledError,
    acquire,
    active_plan,
    cancel_job,
    is_done,
)
from slicewise.cluster.plan import BUNDLES
from slicewise.cluster.submit import cancel
from slicewise.core.files import read_json
from slicewise.engine.fence import FencedError
from slicewise.engine.receipt import Receipt, Report, checksum_folder, product_digest
from slicewise.engine.remote import Remote, Transfer


@pytest.fixture
def sealed(seal_plan: Seal, tmp_path: Path) -> Sealed:
    return seal_plan(tmp_path / "work")


def write_output(workspace: AttemptWorkspace, sealed: Sealed, text: str) -> tuple[Receipt, Path]:
    """Write an output of the split as its step would; return its receipt and its folder."""
    identity = sealed.folder.plan.steps["split"].identity
    partial = workspace.partial("split", identity.fingerprint)
    (partial / "split").mkdir(parents=True, exist_ok=True)
    (partial / "split" / "split.json").write_text(text)
    files = {"split": checksum_folder(partial / "split")}
    return Receipt(identity, files, {}, {}, product_digest(files, ("*",), {}), Report()), partial


def test_the_work_of_an_attempt_that_is_given_up_goes_on_in_another_folder(sealed: Sealed) -> None:
    (job,) = sealed.group("split").jobs
    stored = sealed.folder.plan.stored_step(job)
    first = acquire(sealed.folder, job)
    sleeper = AttemptWorkspace(first)
    receipt, partial = write_output(sleeper, sealed, "half")
    second = acquire(sealed.folder, job)
    second.adopt()
    assert not partial.exists()
    assert (second.partial() / "split" / "split.json").read_text() == "half"

    receipt, partial = write_output(sleeper, sealed, "of the sleeper")
    with pytest.raises(FencedError, match="token 1 was given up for 2"):
        sleeper.shelve(stored, receipt, partial)
    assert not is_done(sealed.folder, job)

    workspace = AttemptWorkspace(second)
    receipt, partial = write_output(workspace, sealed, "whole")
    workspace.shelve(stored, receipt, partial)
    assert is_done(sealed.folder, job)
    output = workspace.find(stored, receipt.fingerprint)
    assert output is not None
    with pytest.raises(FencedError):
        sleeper.install(stored, output)
    workspace.install(stored, output)
    second.sweep(workspace)
    assert (workspace.home("data/split") / "split.json").read_text() == "whole"
    assert not [*partial.parent.iterdir()], "what the sleeper wrote is gone"


def test_a_kill_between_commit_and_move_leaves_it_to_the_next_attempt(sealed: Sealed) -> None:
    (job,) = sealed.group("split").jobs
    killed = acquire(sealed.folder, job)
    receipt, partial = write_output(AttemptWorkspace(killed), sealed, "whole")
    receipt.write(partial / "split")
    killed.commit()
    assert not is_done(sealed.folder, job)
    assert sealed.run("split").returncode == 0
    assert is_done(sealed.folder, job)
    assert (sealed.pipeline.workspace / "data/split/split.json").read_text() == "whole", "not made again"


def test_what_is_cancelled_neither_begins_nor_commits_and_a_local_run_continues_its_work(
    sealed: Sealed,
) -> None:
    (job,) = sealed.group("split").jobs
    running = acquire(sealed.folder, job)
    receipt, partial = write_output(AttemptWorkspace(running), sealed, "half")
    cancel_job(sealed.folder, job)
    with pytest.raises(FencedError):
        AttemptWorkspace(running).shelve(sealed.folder.plan.stored_step(job), receipt, partial)
    with pytest.raises(CancelledError, match="this job makes nothing"):
        acquire(sealed.folder, job)
    kept = sealed.folder.workspace.partial("split", receipt.fingerprint)
    assert (kept / "split" / "split.json").read_text() == "half"


def test_jobs_of_a_plan_that_was_replaced_make_nothing(
    sealed: Sealed, capsys: pytest.CaptureFixture[str]
) -> None:
    (job,) = sealed.group("split").jobs
    running = acquire(sealed.folder, job)
    newer = seal_next(sealed.pipeline)
    acquire(newer, job)
    with pytest.raises(FencedError):
        running.commit()
    done = sealed.run("split")
    assert done.returncode == 3
    assert "was cancelled, has ended, or was replaced by a later one" in done.stdout


def test_a_workspace_with_jobs_is_not_worked_in(
    sealed: Sealed, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sealed.pipeline.run() == 2
    assert "the jobs of plan 1 work in" in capsys.readouterr().err
    assert main(["clean", "--workspace", str(sealed.pipeline.workspace)]) == 2
    assert "the jobs of plan 1 work in" in capsys.readouterr().err
    assert sealed.pipeline.call("pull", str(sealed.pipeline.workspace.parent), "--steps", "split") == 2
    assert "the jobs of plan 1 work in" in capsys.readouterr().err
    monkeypatch.setattr("slicewise.cluster.slurm.queue", lambda _: [])
    assert cancel(sealed.folder) == []
    assert active_plan(sealed.folder.workspace) is None
    assert sealed.pipeline.run("--until", "split") == 0


def test_a_bundle_that_was_done_is_not_done_again(sealed: Sealed) -> None:
    bundle = sealed.group(BUNDLES).jobs[0]
    assert sealed.run(BUNDLES).returncode == 0
    entries = {path: path.stat().st_ino for path in (sealed.pipeline.workspace / "data/slices").glob("*/*")}
    assert len(entries) == len(bundle.cases)
    rows = read_json(sealed.folder.hashes(bundle))["hashes"]
    assert all(Path(path).stat().st_ino == row[2] for path, row in rows.items())
    again = sealed.run(BUNDLES)
    assert again.returncode == 0
    assert {path: path.stat().st_ino for path in entries} == entries


def test_a_push_beside_jobs_takes_finished_outputs_alone_wherever_they_move(
    sealed: Sealed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = sealed.group("split").jobs
    stored = sealed.folder.plan.stored_step(job)
    first = AttemptWorkspace(acquire(sealed.folder, job))
    first.remember_steps([stored])
    receipt, partial = write_output(first, sealed, "finished")
    first.shelve(stored, receipt, partial)
    output = first.find(stored, receipt.fingerprint)
    assert output is not None
    first.install(stored, output)
    later = seal_next(sealed.pipeline, "split.seed=5")
    (job,) = next(group.jobs for group in later.plan.groups if group.name == "split")
    second = AttemptWorkspace(acquire(later, job))
    identity = later.plan.steps["split"].identity
    assert identity.fingerprint != receipt.fingerprint
    partial = second.partial("split", identity.fingerprint)
    (partial / "split").mkdir(parents=True)
    (partial / "split" / "split.json").write_text("of the job")
    made = replace(receipt, identity=identity, files={"split": checksum_folder(partial / "split")})
    made.write(partial / "split")

    def finish() -> None:
        second.shelve(stored, made, partial)
        output = second.find(stored, identity.fingerprint)
        assert output is not None
        second.install(stored, output)

    missing = Remote.missing

    def move_meanwhile(self: Remote, transfers: Iterable[Transfer]) -> list[Transfer]:
        found = missing(self, transfers)
        if partial.exists():
            finish()
        return found

    monkeypatch.setattr(Remote, "missing", move_meanwhile)
    command = ["push", str(tmp_path / "remote"), "--steps", "split", "--workspace"]
    assert main([*command, str(sealed.pipeline.workspace)]) == 0
    remote = Remote(str(tmp_path / "remote"))
    assert remote.fingerprints("split") == [receipt.fingerprint], "not what the job was making"
    (content,) = (path for path in (tmp_path / "remote/files").rglob("*") if path.is_file())
    assert content.read_text() == "finished"
    assert main([*command, str(sealed.pipeline.workspace)]) == 0
    assert {*remote.fingerprints("split")} == {receipt.fingerprint, identity.fingerprint}
