"""Which commit a record names."""

import subprocess
from pathlib import Path

import pytest

from slicewise.engine.record import git_commit


def git(folder: Path, *words: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", folder, *who, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """A file of a source that is under version control."""
    path = tmp_path / "src" / "module.py"
    path.parent.mkdir()
    path.write_text("a = 1\n")
    git(tmp_path, "init")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    return path


def test_the_commit_of_a_checkout_and_whether_files_differ(module: Path) -> None:
    commit = git(module.parent, "rev-parse", "HEAD")
    assert len(commit) == 40
    assert git_commit(module) == commit
    module.write_text("a = 2\n")
    assert git_commit(module) == f"{commit}-dirty"


def test_a_copy_installed_in_another_checkout_has_no_commit(module: Path) -> None:
    installed = module.parents[1] / ".venv" / "module.py"
    installed.parent.mkdir()
    installed.write_bytes(module.read_bytes())
    assert git_commit(installed) is None


def test_outside_of_a_checkout_there_is_none(tmp_path: Path) -> None:
    assert git_commit(tmp_path / "module.py") is None
