"""`slicewise export-plan`: rules of Snakemake that run one step each, from a file with every key."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from tests.cli.test_tune import SMALL
from tests.conftest import ROOT, Pipeline

from slicewise.cli.main import main

OWN = ROOT / ".venv-snakemake" / "bin" / "snakemake"
SNAKEMAKE = str(OWN) if OWN.is_file() else shutil.which("snakemake")
STEPS = ["download", "preprocess", "split", "train.train", "evaluate", "report"]


def export(workspace: Path, *words: str) -> int:
    return main(["export-plan", "--to", "snakemake", "--workspace", str(workspace), *words, *SMALL])


def rules(snakefile: Path) -> dict[str, tuple[set[str], str]]:
    """Return {step: (steps it waits for, its command)}."""
    text = snakefile.read_text()
    found = {}
    for block in re.split(r"^rule (?!all)\w+:$", text, flags=re.MULTILINE)[1:]:
        inputs, outputs, shell = re.split(r"output:|shell:", block)
        (step,) = re.findall(r'DONE \+ "/([^"]+)"', outputs)
        found[step] = ({*re.findall(r'DONE \+ "/([^"]+)"', inputs)}, "".join(re.findall(r'"(.*)"', shell)))
    return found


def test_every_rule_runs_its_step_alone_and_they_make_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Snakemake: the commands in any order that the inputs allow."""
    workspace = tmp_path / "a workspace"
    assert export(workspace) == 0
    folder, finished = workspace / "plan", list[str]()
    waiting = rules(folder / "Snakefile")
    assert [*waiting] == STEPS
    monkeypatch.setenv("SLICEWISE_CONFIGS", str(tmp_path / "none"))  # the file holds every key
    while waiting:
        step = next(name for name, (needs, _) in waiting.items() if needs <= {*finished})
        line = waiting.pop(step)[1]
        for name, value in (("SETTINGS", folder / "settings.yaml"), ("WORKSPACE", workspace)):
            line = line.replace(f"{{{name}:q}}", shlex.quote(str(value)))
        words = shlex.split(line)
        assert words[:2] == ["{SLICEWISE}", "run"]
        if step in STEPS[:3]:  # the rest is what Snakemake itself does below
            assert main(words[1:]) == 0
            assert Pipeline(workspace).ran() == [step]
        finished.append(step)


@pytest.mark.skipif(SNAKEMAKE is None, reason="needs `make snakemake`: it wants other versions than ours")
def test_snakemake_runs_the_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert SNAKEMAKE is not None
    workspace = tmp_path / "a workspace"
    monkeypatch.chdir(tmp_path)  # Snakemake keeps its own records in the folder of the export
    assert export(workspace, "--until", "train") == 0
    monkeypatch.setenv("SLICEWISE_CONFIGS", str(ROOT / "configs"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    command = [
        SNAKEMAKE,
        "--snakefile",
        str(workspace / "plan" / "Snakefile"),
        "--cores",
        "1",
        "--quiet",
        "all",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert sorted(path.name for path in (workspace / "plan" / "done").iterdir()) == sorted(STEPS[:4])
    assert main(["run", "--no-input", "--workspace", str(workspace), "--until", "train", *SMALL]) == 0
    assert {*Pipeline(workspace).statuses().values()} == {"reused", "skipped"}
    again = subprocess.run([*command, "--dry-run"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "rule " not in again.stdout


def test_folds_are_rules_of_their_own(tmp_path: Path) -> None:
    assert export(tmp_path, "--folds", "2", "--output", str(tmp_path / "rules")) == 0
    found = rules(tmp_path / "rules" / "Snakefile")
    assert found["fold2.train.train"][0] == {"preprocess", "fold2.split"}
    assert "rule fold2_train_train:" in (tmp_path / "rules" / "Snakefile").read_text()
    assert "cross_validation" in found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--only", "demo"], "no step with an output is left"),
        (["--minutes", "3"], "leave it out, or set stages.STAGE.epochs"),
        (["--force", "train"], "leave --force out"),
    ],
)
def test_what_makes_no_rules(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export(tmp_path, *words) == 2
    assert message in " ".join(capsys.readouterr().err.split())
