import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import TINY, Pipeline

from slicewise import __version__
from slicewise.cli.main import VERBS, main
from slicewise.core.files import read_json


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(verb in out and text in out for verb, text in VERBS.items())


def test_no_words_means_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "usage: slicewise VERB" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"slicewise {__version__}"


def test_an_unknown_verb_is_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "'trian' is not a verb" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main([verb, "--help"])
    assert exit_.value.code == 0
    assert f"usage: slicewise {verb}" in capsys.readouterr().out


def unread(*words: str, stderr: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """Run a command whose output goes into a pipe that nobody reads; its errors may go there too."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-m", "slicewise", *words]
        return subprocess.run(command, text=True, check=False, stdout=writer, stderr=stderr)
    finally:
        os.close(writer)


def test_a_run_that_nobody_reads_is_carried_out(trained: Pipeline, tmp_path: Path) -> None:
    shutil.copytree(trained.workspace / "data" / "raw", tmp_path / "data" / "raw")  # to make them takes long
    words = ("run", "--no-input", "--until", "download", "--workspace", str(tmp_path), *TINY)
    done = unread(*words)
    assert (done.returncode, done.stderr) == (0, "")
    record = read_json(tmp_path / "pipeline_results.json")
    assert (record["status"], record["steps"]["download"]["status"]) == ("completed", "completed")


@pytest.mark.parametrize("wait", [("--wait",), ("--wait", "3"), ("--wait=3",)])
def test_what_follows_a_wait_without_seconds_is_an_override(
    wait: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "data=lgg",
        "data.sources.volumes.path=/nowhere",
        "--workspace",
        str(tmp_path),
        "--until",
        "download",
    )
    assert main(["run", "--no-input", *wait, *words]) == 2
    assert "/nowhere does not exist" in capsys.readouterr().err
    assert main(["run", "--no-input", *words, *wait]) == 2
    assert "/nowhere does not exist" in capsys.readouterr().err


def test_a_run_that_nobody_reads_still_fails_where_it_must(tmp_path: Path) -> None:
    words = (
        "run",
        "--until",
        "download",
        "--workspace",
        str(tmp_path),
        "data=lgg",
        "data.sources.volumes.path=/nowhere",
    )
    assert unread(*words, stderr=subprocess.STDOUT).returncode == 2
    done = unread(*words)
    assert (done.returncode, "/nowhere does not exist" in done.stderr) == (2, True)


@pytest.mark.parametrize("words", [("--help",), (), ("run", "--help")])
def test_help_that_nobody_reads_to_its_end_is_no_fault(words: tuple[str, ...]) -> None:
    done = unread(*words)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_that_does_not_exist_is_wrong_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["plan", "--workspace", str(tmp_path), "data=lgg", "data.sources.volumes.path=/nowhere"]
    assert main(words) == 2
    assert "data.sources.volumes.path: /nowhere does not exist" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["run", "plan", "doctor", "clean", "status"])
def test_a_workspace_below_a_file_is_refused_in_one_line(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file"
    file.touch()
    assert main([verb, "--workspace", str(file / "below")]) == 2
    err = capsys.readouterr().err
    assert f"{file} is not a folder" in err
    assert "Traceback" not in err


def test_a_file_in_the_place_of_a_folder_is_no_fault_of_ours(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def meet(_args: object) -> int:
        return len((tmp_path / "file" / "below").read_bytes())

    (tmp_path / "file").touch()
    monkeypatch.setattr("slicewise.cli.status.execute", meet)
    assert main(["status", "--workspace", str(tmp_path)]) == 1
    assert "a file lies where a folder would have to be" in capsys.readouterr().err


def test_a_verb_that_only_tells_ends_quietly_where_nobody_reads(tmp_path: Path) -> None:
    done = unread("status", "--workspace", str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")
