"""Nothing that is printed ends a command: streams closed, full, unread, or of few characters."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import ROOT, TINY, Pipeline

from slicewise.core.files import read_json

SLICEWISE = f"{shlex.quote(sys.executable)} -m slicewise"
SCRIPT = f"{shlex.quote(sys.executable)} {shlex.quote(str(ROOT / 'scripts' / 'run_full_pipeline.py'))}"
REDIRECTIONS = (
    ">&-",
    "2>&-",
    "<&-",
    "<&- >&- 2>&-",
    ">/dev/full",
    ">/dev/full 2>&1",
    "</dev/null >/dev/null 2>&1",
)
ALL_THREE = ("<&- >&- 2>&-", ">/dev/full 2>&1")
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LOCALES = {
    "C locale, strict": C_LOCALE | {"PYTHONIOENCODING": "ascii:strict"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
}


def shell(command: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        ["sh", "-c", f"exec {command}"],
        cwd=folder,
        env=environment | variables,
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "code", "redirection"),
    [
        *(("status", 0, each) for each in REDIRECTIONS),
        *(
            (words, code, each)
            for words, code in (("rnu", 2), ("--help", 0), ("plan --nothing", 2))
            for each in ALL_THREE
        ),
    ],
)
def test_the_exit_code_does_not_depend_on_the_streams(
    words: str, code: int, redirection: str, tmp_path: Path
) -> None:
    done = shell(f"{SLICEWISE} {words} {redirection}", tmp_path)
    assert done.returncode == code, done.stderr
    assert b"Traceback" not in done.stderr + done.stdout


@pytest.mark.parametrize(
    ("program", "redirection"),
    [(f"{SLICEWISE} run", ALL_THREE[0]), (SCRIPT, ALL_THREE[1])],
    ids=["slicewise", "script"],
)
def test_a_run_is_carried_out_whatever_its_streams(
    program: str, redirection: str, trained: Pipeline, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "raw").symlink_to(trained.workspace / "data" / "raw")
    overrides = " ".join(map(shlex.quote, TINY))
    done = shell(f"{program} --until download --workspace . {overrides} {redirection}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert read_json(tmp_path / "pipeline_results.json")["status"] == "completed"
    (log,) = (tmp_path / "logs").iterdir()
    assert "download" in log.read_text(encoding="utf-8")


@pytest.mark.parametrize("variables", LOCALES.values(), ids=LOCALES)
def test_the_locale_changes_no_file(variables: dict[str, str], tmp_path: Path) -> None:
    """Its encoding is that of the terminal alone: names, settings, logs and records are in UTF-8."""
    (tmp_path / "médecine").mkdir()
    words = "--until download --workspace größe data=lgg data.sources.volumes.path=médecine data.name=数据"
    done = shell(f"{SLICEWISE} run {words}", tmp_path, **variables)
    assert done.returncode == 1, done.stderr
    record = read_json(tmp_path / "größe" / "pipeline_results.json")
    assert record["data_set"]["name"] == "数据"
    assert "médecine" in record["error"]["message"]
    (log,) = (tmp_path / "größe" / "logs").iterdir()
    assert words in log.read_text(encoding="utf-8").replace("'", "")
    encoding = variables.get("PYTHONIOENCODING", "ascii").partition(":")[0]
    assert "decine" in (done.stdout + done.stderr).decode(encoding)
