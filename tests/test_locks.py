"""The installed packages are the pinned ones, byte for byte, and the locks agree with constraints.txt."""

import re
import shutil
import subprocess
import tomllib
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from scripts.utils import audit
from scripts.utils.audit import CLEAN, UNREACHED, VULNERABLE, summarize
from scripts.utils.lock_requirements import APART

ROOT = Path(__file__).resolve().parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
BAD = {"id": "PYSEC-1", "fix_versions": ["2"]}
_PIN = re.compile(r"^([a-z0-9][a-z0-9._-]*)==([^\s;]+)", re.MULTILINE)


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(path: Path) -> dict[str, str]:
    return {normal(name): version for name, version in _PIN.findall(path.read_text())}


def locked() -> dict[str, str]:
    ours = [path for path in LOCKS if path.stem not in APART]
    return {name: version for path in ours for name, version in pins(path).items()}


def test_there_is_a_lock_for_each_extra() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {path.stem for path in LOCKS} == {*extras, *APART, "base", "uv"}


def test_a_prediction_from_an_exported_model_needs_nothing_large() -> None:
    needed = {name for lock in named_by("runtime") for name in pins(ROOT / "requirements" / f"{lock}.lock")}
    large = {"torch", "scipy", "opencv-python-headless", "nibabel", "matplotlib", "pydicom", "hydra-core"}
    assert "onnxruntime" in needed
    assert not needed & large


def test_every_version_is_that_of_the_constraints() -> None:
    constraints = pins(ROOT / "constraints.txt")
    versions = locked()
    assert {
        name: version for name, version in versions.items() if constraints.get(name, version) != version
    } == {}
    assert set(constraints) <= set(versions), "constraints.txt changed: run make locks"


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    names = {normal(re.split(r"[<>=~!;\[ ]", line)[0]) for line in wanted}
    assert names - {"slicewise"} <= set(locked()), "pyproject.toml changed: run make constraints"


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.stem)
def test_every_file_has_a_hash_and_no_address_is_named(path: Path) -> None:
    text = path.read_text()
    blocks = re.split(r"^(?=[a-z0-9][a-z0-9._-]*==)", text, flags=re.MULTILINE)[1:]
    assert blocks
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}\b", block) for block in blocks)
    assert "://" not in text
    assert "--index" not in text


def test_the_makefile_installs_from_the_locks_alone() -> None:
    installs = [line for line in (ROOT / "Makefile").read_text().splitlines() if "pip install" in line]
    assert installs
    text = (ROOT / "Makefile").read_text().replace("\\\n", " ")
    commands = [line for line in text.split("\n") if "pip install" in line]
    for command in commands:
        for part in command.split("||"):
            if "pip install" in part:
                assert "--require-hashes" in part or "--no-deps" in part, part


def test_the_audit_is_not_clean_when_nothing_could_be_checked() -> None:
    skipped = {"name": "a", "skip_reason": "Dependency not found on PyPI"}
    sound = {"name": "b", "version": "1", "vulns": []}
    bad = {"name": "c", "version": "1", "vulns": [BAD]}
    assert summarize([])[0] == summarize([skipped])[0] == UNREACHED
    assert summarize([skipped, sound])[0] == CLEAN
    code, message = summarize([sound, bad])
    assert (code, "c 1: PYSEC-1, fixed in 2" in message) == (VULNERABLE, True)


def named_by(lock: str) -> set[str]:
    """Return a lock and all that it includes."""
    below = re.findall(
        r"^-r (\w+)\.lock$", (ROOT / "requirements" / f"{lock}.lock").read_text(), re.MULTILINE
    )
    return {lock}.union(*map(named_by, below))


def test_the_audit_checks_every_lock() -> None:
    assert set().union(*map(named_by, audit.LOCKS)) == {path.stem for path in LOCKS}


@pytest.mark.parametrize(("vulns", "expected"), [([], UNREACHED), ([BAD], VULNERABLE)])
def test_a_lock_that_could_not_be_checked_is_not_called_clean(
    vulns: list[Any], expected: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sound = [{"name": "b", "version": "1", "vulns": vulns}]
    monkeypatch.setattr(audit, "query_advisories", lambda lock: None if lock == "tracking" else sound)
    assert audit.main() == expected
    out = capsys.readouterr().out
    assert "could not be checked: tracking" in out
    assert "no known vulnerability" not in out
    monkeypatch.setattr(audit, "query_advisories", lambda lock: sound)
    assert audit.main() == (VULNERABLE if vulns else CLEAN)


@pytest.mark.parametrize(("output", "ends_well"), [("echo fresh==2", True), ("echo half==2; exit 1", False)])
def test_a_failed_resolution_leaves_the_constraints_as_they_were(
    tmp_path: Path, output: str, *, ends_well: bool
) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "constraints.txt").write_text("old==1\n")
    uv = tmp_path / ".venv" / "bin" / "uv"
    uv.parent.mkdir(parents=True)
    uv.write_text(f"#!/bin/sh\n[ $1 = --version ] && echo uv 9.9 && exit\ncat > /dev/null\n{output}\n")
    uv.chmod(0o755)
    (uv.parent / "python").symlink_to(shutil.which("true") or "/bin/true")  # make locks has nothing to do
    command = ["make", "--directory", str(tmp_path), "constraints"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    pinned = (tmp_path / "constraints.txt").read_text()
    assert (done.returncode == 0) is ends_well, done.stderr
    assert ("fresh==2\nuv==9.9\n" in pinned) if ends_well else (pinned == "old==1\n")
