from pathlib import Path

import pytest
import yaml

from slicewise.cli.main import main
from slicewise.config.compose import compose
from slicewise.config.export import compare_configs


def test_config_prints_the_merged_tree(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--training-mode", "baseline", "training.batch_size=7"]) == 0
    tree = yaml.safe_load(capsys.readouterr().out)
    assert tree["training_mode"] == "baseline"
    assert tree["training"]["batch_size"] == 7


def test_diff_names_what_a_mode_changes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--diff", "quick", "production"]) == 0
    out = capsys.readouterr().out
    assert "scale.fraction: 0.05 -> 1.0" in out
    assert "split." not in out


def test_a_difference_is_written_as_an_override_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--diff", "quick", "production"]) == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert lines["model.encoder_weights"] == "imagenet -> null"
    assert lines["evaluation.modality_subsets"] == "false -> true"
    words = [
        f"{key}={change.rpartition(' -> ')[2]}" for key, change in lines.items() if key != "training_mode"
    ]
    assert compare_configs(compose(["modes=production"]), compose(["modes=quick", *words])).keys() == {
        "training_mode"
    }


def test_all_faults_go_to_stderr_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "training.batch_size=0", "modle.encoder=x"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "2 faults in the configuration" in captured.err
    assert "modle: unknown key; did you mean model?" in captured.err


def test_a_word_that_is_no_override_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "quick"]) == 2
    assert "'quick' is neither an option nor key=value" in capsys.readouterr().err


def test_write_puts_the_nine_files_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    root = Path(__file__).resolve().parents[2]
    shutil.copytree(root / "configs", tmp_path / "configs", ignore=shutil.ignore_patterns("final"))
    monkeypatch.setenv("SLICEWISE_CONFIGS", str(tmp_path / "configs"))
    assert main(["config", "--write"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 9
    assert len(list((tmp_path / "configs" / "final").glob("multitask_*.yaml"))) == 9


def test_write_goes_into_the_workspace_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["config", "--write", "--folds", "3", "training.batch_size=7"]
    assert main([*words, "--workspace", str(tmp_path / "one")]) == 0
    monkeypatch.setenv("SLICEWISE_WORKSPACE", str(tmp_path / "two"))
    assert main(words) == 0
    for name in ("one", "two"):
        files = sorted((tmp_path / name / "configs" / "final").iterdir())
        assert len(files) == 9
        tree = yaml.safe_load(files[0].read_text())
        assert (tree["split"]["folds"], tree["training"]["batch_size"]) == (3, 7)


def test_diff_minds_the_folds_and_every_override(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--diff", "quick", "baseline", "--folds", "1"]) == 2
    assert "split.folds" in capsys.readouterr().err
    assert main(["config", "--diff", "quick", "baseline", "seed"]) == 2
    assert "'seed' is neither an option nor key=value" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--diff", "quick", "baseline", "--training-mode", "production"), "leave --training-mode out"),
        (("--diff", "quick", "baseline", "--write"), "leave --write out, or --diff"),
        (("--write", "--training-mode", "production"), "--write writes the files of every mode"),
    ],
)
def test_options_that_would_be_ignored_are_refused(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", *words]) == 2
    assert message in capsys.readouterr().err
